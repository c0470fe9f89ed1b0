"""One decision of a search; one that was made is emitted again as it is, and a damaged one is decided anew."""

import os
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from bambo.config import deciding, load, search_settings, settings_hash
from bambo.files import read_json
from bambo.jobs import job
from bambo.records import is_made, read_record, write_record
from bambo.run import Run
from bambo.space import expand

# More threads add in another order: last digits, and so proposals, would differ.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
WAIT = 0.2  # seconds between looks at whether another slot has decided


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


def slotted(settings):
    return settings["schedule"] == "async"


def alone(config, search, settings):
    """Where slots go on by themselves, each decision has to see the one before it, whichever process makes it."""
    from bambo.candidate.lease import hold

    return hold(config.folder / "search" / search, poll=WAIT) if slotted(settings) else nullcontext()


def imports(config, search, settings):
    """Import what takes seconds while others may still decide."""
    from bambo.search.ask import optimiser
    from bambo.search.proposals import proposal_paths

    # The initial design is drawn without an optimiser.
    if len(proposal_paths(config.folder, search)) >= (settings["n_initial"] if slotted(settings) else 1):
        optimiser(settings)


def coarser(config, settings):
    """The search that this one starts from, if it does."""
    from bambo.search.start import Coarser

    name = settings["start_from"]
    if name is None:
        return None
    record = read_json(config.folder / "search" / name / "variables.json")
    return Coarser(name, search_settings(config, name), record["variables"])


def decide(config, search, key, output, settings, variables):
    """Make and write the decision, and say how the search stands."""
    from bambo.search.ledger import propose

    run, normalisation = Run.open(config), read_json(snakemake.input.normalisation)
    imports(config, search, settings)
    with alone(config, search, settings):
        if is_made(output, "proposal"):  # by a process that a start before this one left behind
            return
        proposal = propose(
            run,
            search,
            key,
            settings=settings,
            settings_hash=settings_hash(deciding(config, search)),
            variables=variables,
            normalisation=normalisation,
            reference=config.reference_point,
            candidates_per_job=config.evaluation.candidates_per_job,
            coarser=coarser(config, settings),
        )
        if slotted(settings):
            proposal["decided"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        write_record(output, "proposal", proposal)


def tell(config, search, output, settings):
    """How the search stood when the decision was made: after each iteration, or now and then."""
    from bambo.search.stopping import slots

    proposal = read_record(output, "proposal")
    iteration = proposal["iteration"]
    seldom = slotted(settings) and (iteration % slots(settings) or not proposal["candidates"])
    if iteration == 0 or seldom:
        return
    from bambo.report.summary import print_progress

    print_progress(config.folder, search, settings, config.reference_point, iteration)


with job(snakemake.log[0]):
    config = load(snakemake.config)
    search, key = snakemake.wildcards.search, snakemake.wildcards.key
    settings = search_settings(config, search)
    variables = read_json(snakemake.input.variables)["variables"]
    output = Path(snakemake.output[0])
    if is_made(output, "proposal"):
        restore_recipes(config, read_record(output, "proposal"), variables, settings)
        os.utime(output)
    else:
        decide(config, search, key, output, settings, variables)
        tell(config, search, output, settings)
