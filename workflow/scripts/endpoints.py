"""Recipes of the pure sources."""

from pathlib import Path

from bambo.config import load, run_settings
from bambo.endpoints import write_end_points
from bambo.files import write_json
from bambo.jobs import job
from bambo.run import Run

with job(snakemake.log[0]):
    config = load(snakemake.config)
    end_points = write_end_points(Run.open(config))
    write_json(Path(snakemake.output[0]), {"settings": run_settings(config), **end_points})
