"""Log the run to the trackers of the config; what goes wrong there is a warning."""

import logging
from pathlib import Path

from bambo.config import load
from bambo.files import mark
from bambo.jobs import job
from bambo.tracking import print_warnings, track

with job(snakemake.log[0]):
    warnings = track(load(snakemake.config))
    print_warnings(warnings)
    for text in warnings:
        logging.warning("warning: %s", text)
    mark(Path(snakemake.output[0]))
