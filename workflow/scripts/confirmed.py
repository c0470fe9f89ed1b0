"""Fresh scores of chosen models, and how much the front had promised too much."""

import pandas as pd
from bambo.config import load
from bambo.files import read_json
from bambo.jobs import job
from bambo.report import confirmed, tables
from bambo.report.style import save

with job(snakemake.log[0]):
    config = load(snakemake.config)
    folder, names = config.folder, list(config.objectives)
    pareto = tables.read(folder, "pareto")
    objectives = {name: objective.model_dump() for name, objective in config.objectives.items()}
    models, promises = [], []
    for kind, ids in read_json(snakemake.input.candidates).items():
        fresh = confirmed.read_fresh(folder, kind, ids, objectives)
        models.append(confirmed.models(fresh, pareto, names))
        promises.append(confirmed.optimism(fresh, models[-1], names, config.reference_point))
    table = pd.concat(models, ignore_index=True)
    tables.write(folder / "tables" / "confirmed", table)
    tables.write(folder / "tables" / "optimism", pd.concat(promises, ignore_index=True))
    save(
        confirmed.figure(table, names, config.evaluation.engine == "simulated"),
        folder / "figures" / "confirmed.svg",
    )
