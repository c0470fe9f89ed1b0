"""Recipes of a smoke run."""

import sys
from pathlib import Path

from bambo.config import load
from bambo.files import write_json
from bambo.jobs import job
from bambo.preflight import template_notes
from bambo.run import Run
from bambo.smoke import write_smoke

with job(snakemake.log[0]):
    config = load(snakemake.config)
    run = Run.open(config)
    for note in template_notes(config, {name: Path(each["path"]) for name, each in run.sources.items()}):
        print(note, file=sys.stderr, flush=True)
    write_json(Path(snakemake.output[0]), write_smoke(run))
