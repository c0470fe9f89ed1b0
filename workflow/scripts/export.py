"""The chosen models as folders, ready to serve."""

from pathlib import Path

from bambo.config import load
from bambo.export import export
from bambo.files import write_json
from bambo.jobs import job
from bambo.report import tables

with job(snakemake.log[0]):
    config = load(snakemake.config)
    run = config.folder
    chosen = tables.read(run, "selection").sort_values("export").head(config.selection.export)
    choices = chosen[["name", "candidate", "accuracy", "tokens", "preference", "reason"]].to_dict("records")
    write_json(Path(snakemake.output[0]), export(run, choices, run / "models", threads=snakemake.threads))
