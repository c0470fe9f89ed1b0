"""Gather the variables of all searches."""

from pathlib import Path

from bambo.files import read_json, write_json
from bambo.jobs import job

with job(snakemake.log[0]):
    searches = {}
    for name, path in zip(snakemake.params.searches, snakemake.input, strict=True):
        record = read_json(path)
        searches[name] = {key: record[key] for key in ("strategy", "n_blocks", "variables")}
    write_json(Path(snakemake.output[0]), {"searches": searches})
