"""What a smoke run found, printed and kept."""

from pathlib import Path

from bambo.config import load
from bambo.files import write_text
from bambo.jobs import job
from bambo.report.smoke import smoke_text

with job(snakemake.log[0]):
    text = smoke_text(load(snakemake.config))
    write_text(Path(snakemake.output[0]), f"{text}\n")
    print(text, flush=True)
