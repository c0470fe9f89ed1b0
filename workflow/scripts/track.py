"""Log the run to the trackers of the config; what goes wrong there is a warning."""

from pathlib import Path

from bambo.config import load
from bambo.files import mark
from bambo.jobs import job
from bambo.tracking import print_warnings, track

with job(snakemake.log[0]):
    print_warnings(track(load(snakemake.config)))
    mark(Path(snakemake.output[0]))
