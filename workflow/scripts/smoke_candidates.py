"""Recipes of a smoke run."""

from pathlib import Path

from bambo.config import load
from bambo.files import write_json
from bambo.jobs import job
from bambo.run import Run
from bambo.smoke import write_smoke

with job(snakemake.log[0]):
    write_json(Path(snakemake.output[0]), write_smoke(Run.open(load(snakemake.config))))
