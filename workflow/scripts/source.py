"""Fingerprint one source model."""

from pathlib import Path

from bambo.files import write_json
from bambo.jobs import job
from bambo.sources import describe

with job(snakemake.log[0]):
    record = describe(snakemake.params.model, snakemake.params.revision)
    write_json(Path(snakemake.output[0]), record)
