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
from bambo.records import read_record

with plain_errors():
    CONFIG = bambo.config.load(config)
RUN = str(CONFIG.folder)

if workflow.is_main_process:
    from bambo import start
    from bambo.preflight import check, parallel_evaluations, template_notes

    with plain_errors():
        LIMITS = workflow.resource_settings
        PLACES = parallel_evaluations(CONFIG, LIMITS.cores, LIMITS.nodes, LIMITS._parsed_resources)
        SPACE = check(CONFIG, PLACES.count)
        start.note_if_at_work(CONFIG.folder)
    # Limits that the user need not know: one GPU is one evaluation, and no more models wait than can be evaluated.
    for name, limit in PLACES.limits.items():
        workflow.register_resource(name, limit)


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
# vLLM pins what the other engines need in other versions.
EVALUATE = f"../../envs/evaluate{'-vllm' if CONFIG.evaluation.engine == 'vllm' else ''}.yaml"


def scores(ids):
    return [f"{RUN}/candidates/{id}/scores.json" for id in ids]


def end_point_scores(wildcards):
    """Scores of every source under the run's files and under its own."""
    with checkpoints.endpoints.get().output[0].open() as file:
        record = json.load(file)
    return scores(sorted({*record["end_points"].values(), *record["own_files"].values()}))


def smoke_scores(wildcards):
    """Scores of a smoke run's candidates."""
    with checkpoints.smoke_candidates.get().output[0].open() as file:
        return scores(json.load(file).values())


def proposal(search, iteration):
    """A decision that was made; Snakemake comes back here when it is made."""
    path = checkpoints.propose.get(search=search, iteration=f"{iteration:03d}").output[0]
    with plain_errors():
        return read_record(path, "proposal")


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


# Retries are of the main process: inside a cluster's job they would begin anew. The last attempt only records.
ATTEMPTS = CONFIG.retries + 1 if workflow.is_main_process else 0


def on_last_attempt(attempt):
    """Whether an attempt works no more, but records why the others failed."""
    return attempt > CONFIG.retries + 1


def grown(job, quantity):
    """Memory or run time of a job: each retry asks for more."""
    return lambda wildcards, attempt: job.grown(quantity, 1 if on_last_attempt(attempt) else attempt)


def this_attempt(wildcards, attempt):
    return attempt


def gpus(wildcards, attempt):
    idle = on_last_attempt(attempt) or CONFIG.evaluation.engine == "simulated"
    return 0 if idle else CONFIG.resources.evaluate.gpu


def length_option():
    length = CONFIG.evaluation.model_length
    return "" if length is None else f"--model-length {length}"


def print_summary():
    from bambo.report.summary import print_run

    # Not after a smoke run alone.
    if (CONFIG.folder / "tables/selection.csv").exists():
        print_run(CONFIG.folder)
