"""The chosen models as folders, ready to serve."""

from pathlib import Path

from bambo.config import load
from bambo.export import choose, export
from bambo.files import mark, write_json
from bambo.jobs import job
from bambo.report import tables

with job(snakemake.log[0]):
    config = load(snakemake.config)
    run = config.folder
    observations, selection = (tables.read(run, name) for name in ("observations", "selection"))
    choices = choose(selection, observations, config.selection.export)
    index = export(run, choices, run / "models", threads=snakemake.threads)
    write_json(Path(snakemake.output.index), index)
    mark(Path(snakemake.output.settings))
