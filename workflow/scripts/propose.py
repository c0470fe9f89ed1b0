"""One decision of a search; one that was made is emitted again as it is."""

import os
from pathlib import Path

import torch
from bambo.config import deciding, load, search_settings, settings_hash
from bambo.files import read_json, write_json
from bambo.jobs import job
from bambo.report.summary import print_progress
from bambo.run import Run
from bambo.search.ledger import decide

torch.set_num_threads(1)  # more threads add in another order: last digits, and so proposals, would differ

with job(snakemake.log[0]):
    config = load(snakemake.config)
    search, iteration = snakemake.wildcards.search, int(snakemake.wildcards.iteration)
    output = Path(snakemake.output[0])
    if output.exists():
        read_json(output)  # a damaged decision is an error, not a reason to decide again
        os.utime(output)
    else:
        proposal = decide(
            Run.open(config),
            search,
            iteration,
            settings=search_settings(config, search),
            settings_hash=settings_hash(deciding(config, search)),
            variables=read_json(snakemake.input.variables)["variables"],
            normalisation=read_json(snakemake.input.normalisation),
            reference=config.reference_point,
        )
        write_json(output, proposal)
    if iteration > 0:
        settings = search_settings(config, search)
        print_progress(config.folder, search, settings, config.reference_point, before=iteration)
