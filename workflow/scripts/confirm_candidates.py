"""Which models are measured again, and the recipes that ask them anew."""

from pathlib import Path

from bambo.config import load
from bambo.confirm import check_held_out, write_confirm
from bambo.files import mark, read_json, write_json
from bambo.jobs import job
from bambo.report import confirmed, tables
from bambo.run import Run

with job(snakemake.log[0]):
    config = load(snakemake.config)
    run = Run.open(config)
    tasks = run.evaluation["tasks"]
    check_held_out(config, {name: task["data"] for name, task in tasks.items() if "data" in task})
    ends = read_json(snakemake.input.endpoints)["end_points"].values()
    pareto = tables.read(config.folder, "pareto")
    members = confirmed.chosen(pareto, config.reference_point, list(ends), config.confirm.members)
    write_json(Path(snakemake.output.candidates), write_confirm(run, config, members))
    mark(Path(snakemake.output.settings))
