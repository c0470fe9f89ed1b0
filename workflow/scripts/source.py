"""Fingerprint one source model."""

from pathlib import Path

from bambo.files import write_json
from bambo.jobs import job
from bambo.sources import describe

with job(snakemake.log[0]):
    params = snakemake.params
    record = describe(params.model, params.revision, params.adapter)
    write_json(Path(snakemake.output[0]), record)
