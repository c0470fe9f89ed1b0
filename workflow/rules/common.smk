# Shared by all rules: the validated config, paths of the run, what a job waits for, and which python runs it.
#
# REQUIRED INPUTS  the config
# OUTPUTS          none

import json
import os
import sys
from pathlib import Path

# Jobs import bambo from this checkout, also in an environment where it is not installed.
LIBRARY = str(Path(workflow.basedir) / "workflow")
sys.path.insert(0, LIBRARY)
os.environ.update(PYTHONPATH=os.pathsep.join([LIBRARY, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
# Waiting OpenMP threads that spin make busy cores several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import bambo.config
from bambo.errors import plain_errors

with plain_errors():
    CONFIG = bambo.config.load(config)
    if workflow.is_main_process:
        from bambo.preflight import check

        check(CONFIG)

RUN = str(CONFIG.folder)


wildcard_constraints:
    source="|".join(CONFIG.sources),
    search="|".join(CONFIG.searches),
    iteration=r"\d{3}",
    iterations=r"\d+",
    id="[0-9a-f]{12}",


def conda_in_use():
    return any("conda" in str(method).lower() for method in workflow.deployment_settings.deployment_method)


# A conda environment brings a python of its own; without one, jobs run in the environment of this process.
PYTHON = "python" if conda_in_use() else sys.executable


def scores(ids):
    return [f"{RUN}/candidates/{id}/scores.json" for id in ids]


def end_point_scores(wildcards):
    """Scores of every source under the run's files and under its own."""
    with checkpoints.endpoints.get().output[0].open() as file:
        record = json.load(file)
    return scores(sorted({*record["end_points"].values(), *record["own_files"].values()}))


def proposal(search, iteration):
    """A decision that was made; Snakemake comes back here when it is made."""
    with checkpoints.propose.get(search=search, iteration=f"{iteration:03d}").output[0].open() as file:
        return json.load(file)


def evaluated_before(wildcards):
    """What a proposal waits for: every evaluation of the iterations before it."""
    earlier = range(int(wildcards.iteration))
    return scores(id for t in earlier for id in proposal(wildcards.search, t)["candidates"])


def evaluated_within(wildcards):
    """Everything that a budget asks for; a stop that was decided under a smaller budget is passed over."""
    budget = int(wildcards.iterations)
    ids = []
    for t in range(budget + 1):
        decision = proposal(wildcards.search, t)
        ids += decision["candidates"]
        if decision["stop"] and decision["iterations"] >= budget:
            break
    return scores(ids)


def completed(wildcards):
    """The end of every search, with its budget in the name."""
    return [
        f"{RUN}/search/{name}/complete-{bambo.config.iterations(CONFIG, name)}" for name in CONFIG.searches
    ]


def print_summary():
    from bambo.report.summary import print_run

    print_run(CONFIG.folder)
