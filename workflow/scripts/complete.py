"""All of a budget is evaluated."""

from pathlib import Path

from bambo.config import load, search_settings
from bambo.files import write_text
from bambo.jobs import job
from bambo.report.summary import print_progress

with job(snakemake.log[0]):
    config, search = load(snakemake.config), snakemake.wildcards.search
    write_text(Path(snakemake.output[0]), "")
    print_progress(config.folder, search, search_settings(config, search), config.reference_point)
