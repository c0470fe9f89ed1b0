"""Recipes of the pure sources."""

import sys
from pathlib import Path

from bambo.checkpoint import open_checkpoint
from bambo.compatibility import check_compatible
from bambo.config import load, run_settings
from bambo.endpoints import write_end_points
from bambo.files import read_json, write_json
from bambo.jobs import job
from bambo.preflight import template_notes
from bambo.run import Run

with job(snakemake.log[0]):
    config, output = load(snakemake.config), Path(snakemake.output[0])
    run = Run.open(config)
    for note in template_notes(config, {name: Path(each["path"]) for name, each in run.sources.items()}):
        print(note, file=sys.stderr, flush=True)
    if run.base is not None:  # one of the hub is first seen here
        checkpoints = [open_checkpoint(each["path"], each.get("adapter")) for each in run.sources.values()]
        check_compatible(checkpoints, run.vocabulary, open_checkpoint(run.base["path"]))
    end_points = write_end_points(run, read_json(output) if output.exists() else None)
    write_json(output, {"settings": run_settings(config), **end_points})
