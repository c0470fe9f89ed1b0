"""Report, interactive page and README of a run."""

from bambo.config import load
from bambo.jobs import job
from bambo.report.page import write_page
from bambo.report.report import write_report

with job(snakemake.log[0]):
    config = load(snakemake.config)
    needs = write_report(config)
    write_page(config.folder, config.run, config.selection.front, config.selection.nearest, needs)
