"""One decision of a search; one that was made is emitted again as it is, and a damaged one is decided anew."""

import os
import sys
from pathlib import Path

from bambo.config import deciding, load, search_settings, settings_hash
from bambo.files import read_json
from bambo.jobs import job
from bambo.records import Damaged, read_record, write_record
from bambo.report.summary import print_progress
from bambo.run import Run
from bambo.space import expand


def decided(path: Path) -> bool:
    """Whether the decision is there, whole; the same files give a damaged one again."""
    try:
        read_record(path, "proposal")
    except Damaged as error:
        print(f"{error}; decided anew", file=sys.stderr, flush=True)
        return False
    return True


def restore_recipes(config, proposal, variables, settings):
    """Write the recipes and jobs that are missing: no rule makes them."""
    recipes = [config.folder / "candidates" / id / "recipe.json" for id in proposal["candidates"]]
    jobs = [config.folder / "jobs" / f"{name}.json" for name in proposal["jobs"]]
    if all(path.exists() for path in recipes + jobs):
        return
    run = Run.open(config)
    for point in proposal["variables"]:
        run.add(run.recipe(expand(point, variables, settings)))
    for ids in proposal["jobs"].values():
        run.add_job(ids)


with job(snakemake.log[0]):
    config = load(snakemake.config)
    search, iteration = snakemake.wildcards.search, int(snakemake.wildcards.iteration)
    settings = search_settings(config, search)
    variables = read_json(snakemake.input.variables)["variables"]
    output = Path(snakemake.output[0])
    if output.exists() and decided(output):
        restore_recipes(config, read_record(output, "proposal"), variables, settings)
        os.utime(output)
    else:
        # Here, not above: a decision that was made is emitted in a tenth of the time that these take to import.
        import torch
        from bambo.search.ledger import decide

        torch.set_num_threads(
            1
        )  # more threads add in another order: last digits, and so proposals, would differ
        proposal = decide(
            Run.open(config),
            search,
            iteration,
            settings=settings,
            settings_hash=settings_hash(deciding(config, search)),
            variables=variables,
            normalisation=read_json(snakemake.input.normalisation),
            reference=config.reference_point,
            candidates_per_job=config.evaluation.candidates_per_job,
        )
        write_record(output, "proposal", proposal)
        if iteration > 0:
            print_progress(config.folder, search, settings, config.reference_point, before=iteration)
