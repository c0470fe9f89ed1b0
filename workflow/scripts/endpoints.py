"""Recipes of the pure sources."""

from pathlib import Path

from bambo.config import load, run_settings
from bambo.endpoints import write_end_points
from bambo.files import read_json, write_json
from bambo.jobs import job
from bambo.run import Run

with job(snakemake.log[0]):
    config, output = load(snakemake.config), Path(snakemake.output[0])
    end_points = write_end_points(Run.open(config), read_json(output) if output.exists() else None)
    write_json(output, {"settings": run_settings(config), **end_points})
