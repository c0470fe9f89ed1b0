"""What 0 and 1 of every objective mean."""

import logging
from pathlib import Path

from bambo.config import load
from bambo.files import read_json, write_json
from bambo.jobs import job
from bambo.objectives import describe, normalisation
from bambo.run import Run

with job(snakemake.log[0]):
    config = load(snakemake.config)
    run = Run.open(config)
    ids = read_json(snakemake.input.candidates)["end_points"]
    objectives = {name: objective.model_dump() for name, objective in config.objectives.items()}
    end_points = {name: run.scores(id) for name, id in ids.items()}
    scale = normalisation(objectives, end_points, config.evaluation.prices.model_dump())
    logging.info(describe(scale))
    print(describe(scale), flush=True)
    write_json(Path(snakemake.output[0]), scale)
