# Shared by all rules: the validated config, paths of the run, what a job waits for, and which python runs it.
#
# REQUIRED INPUTS  the config
# OUTPUTS          none

import itertools
import json
import os
import sys
from functools import lru_cache
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
from bambo.files import content_hash, read_json
from bambo.records import read_record
from bambo.search import stopping
from bambo.search.proposals import KEY, Place, left_behind, place_of, proposal_path

with plain_errors():
    CONFIG = bambo.config.load(config)
RUN = str(CONFIG.folder)
# What every recipe names: the sources and, for methods on task vectors, the base.
MODELS = [f"{RUN}/sources/{name}.json" for name in CONFIG.sources]
MODELS += [f"{RUN}/base.json"] if bambo.config.needs_base(CONFIG) else []

if workflow.is_main_process:
    from bambo import start
    from bambo.confirm import check_confirm
    from bambo.preflight import check, dimension_notes, parallel_evaluations, slot_notes, template_notes

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
    key=KEY,
    slot=r"\d\d+",
    iterations=r"\d+",
    id="[0-9a-f]{12}",
    job="[0-9a-f]{12}",


def conda_in_use():
    return any("conda" in str(method).lower() for method in workflow.deployment_settings.deployment_method)


# A conda environment brings a python of its own; without one, jobs run in the environment of this process.
PYTHON = "python" if conda_in_use() else sys.executable
# vLLM pins what the other engines need in other versions.
EVALUATE = f"../../envs/evaluate{'-vllm' if CONFIG.evaluation.engine == 'vllm' else ''}.yaml"


def settings(*values):
    """Some hexadecimal digits that are others for other values."""
    return content_hash(values)[:12]


def reported(folder, name, category):
    """A file of the run that `snakemake --report` shows, with its caption of workflow/report/."""
    stem = name.partition(".")[0]
    return report(
        str(Path(RUN) / folder / name),
        caption=f"../report/{stem}.rst",
        category=category,
        labels={"shows": stem},
    )


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


def confirming():
    """Whether the target `confirm` is asked for: Snakemake knows its targets only after the rules."""
    return "confirm" in workflow.dag_settings.targets


def when_asked(path):
    """An input whose changes count only where `confirm` is asked for.

    Once it is done, the report shows it, but a search that goes on does not measure its new front again unasked.
    """
    return lambda wildcards: path if confirming() else ancient(path)


@lru_cache(maxsize=None)
def check_once():
    """Read the held-out questions once: Snakemake comes back to its input functions."""
    with plain_errors():
        check_confirm(CONFIG)


def held_out(wildcards):
    """The held-out questions, which are looked at before anything runs."""
    if confirming() and workflow.is_main_process:
        check_once()
    paths = list(CONFIG.confirm.data.values())
    return paths if confirming() else [ancient(path) for path in paths]


def in_report(wildcards):
    """What the report shows of it."""
    return CONFIRMED if confirming() or Path(CONFIRMED[0]).exists() else []


def confirm_scores(wildcards):
    """Scores of the models that are measured again, and of the end points on their questions."""
    with checkpoints.confirm_candidates.get().output.candidates.open() as file:
        kinds = json.load(file).values()
    return scores(sorted({id for kind in kinds for part in kind.values() for id in part.values()}))


@lru_cache(maxsize=None)
def written(path, time):
    """A decision; read once, since slots come back to all of their own again and again."""
    return read_record(path, "proposal")


def proposal(search, place):
    """A decision that was made; Snakemake comes back here when it is made."""
    path = checkpoints.propose.get(search=search, key=place.key).output[0]
    with plain_errors():
        return written(path, os.stat(path).st_mtime_ns)


def jobs_done(wildcards):
    """The jobs of an iteration that score several candidates each."""
    decision = proposal(wildcards.search, place_of(wildcards.key))
    return [f"{RUN}/jobs/{name}.done" for name in decision["jobs"]]


def members(wildcards):
    """The folders of the candidates that a job scores."""
    with plain_errors():
        return [f"{RUN}/candidates/{id}" for id in read_json(Path(f"{RUN}/jobs/{wildcards.job}.json"))]


def evaluated(search, place):
    """Scores of one decision, once its jobs have scored what they could: what is left is evaluated alone."""
    decision = proposal(search, place)
    if decision["jobs"]:
        checkpoints.together.get(search=search, key=place.key)
    files = scores(decision["candidates"])
    if decision.get("whole"):
        path = checkpoints.promote.get(search=search, key=place.key).output[0]
        with plain_errors():
            files += scores(read_record(path, "promotion")["candidates"])
    return files


def first_stages(wildcards):
    """Scores of the candidates of a decision that are asked the first questions first."""
    decision = proposal(wildcards.search, place_of(wildcards.key))
    if decision["jobs"]:
        checkpoints.together.get(search=wildcards.search, key=wildcards.key)
    return scores(decision["whole"])


def evaluated_before(wildcards):
    """What a proposal waits for: every evaluation of the iterations before it; in a slot, the slot's last one.

    The first ones of a search that starts from another wait for the end of that.
    """
    search, place = wildcards.search, place_of(wildcards.key)
    coarser = CONFIG.searches[search].start_from
    if place.step == 0 and coarser is not None:
        return [completion(coarser)]
    if place.slot < 0:
        return [file for t in range(place.step) for file in evaluated(search, Place(-1, t))]
    if place.step == 0:
        return []
    before = place.previous
    # One that asked for nothing, under a smaller budget, is waited for itself.
    return evaluated(search, before) or str(proposal_path(CONFIG.folder, search, before.key))


def evaluated_from(search, slot, budget):
    """What the decisions of a slot, or the iterations, ask for within a budget; earlier stops are passed over."""
    files = []
    for step in itertools.count() if slot >= 0 else range(budget + 1):
        place = Place(slot, step)
        files += evaluated(search, place)
        decision = proposal(search, place)
        if decision["stop"] and decision["iterations"] >= budget:
            break
    return files


def evaluated_in_slot(wildcards):
    """What a slot asks for until the budget is used up."""
    return evaluated_from(wildcards.search, int(wildcards.slot), int(wildcards.iterations))


def evaluated_within(wildcards):
    """Everything that a budget asks for: of all iterations, or the ends of all slots."""
    search, budget = wildcards.search, wildcards.iterations
    settings = bambo.config.search_settings(CONFIG, search)
    if settings["schedule"] == "sync":
        return evaluated_from(search, -1, int(budget))
    count = stopping.slots(settings)
    with plain_errors():
        others = left_behind(CONFIG.folder, search, count)
    return [f"{RUN}/search/{search}/slot{slot:02d}-{budget}" for slot in range(count)] + scores(others)


def completed(wildcards):
    """The ends of all searches."""
    return [completion(name) for name in CONFIG.searches]


def completion(search):
    """The end of a search, with its budget in the name."""
    return f"{RUN}/search/{search}/complete-{bambo.config.iterations(CONFIG, search)}"


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


def engine_options():
    """What an engine is told of the machine, as options of the evaluation's command."""
    evaluation = CONFIG.evaluation
    options = [f"--device {evaluation.device} --gpus {CONFIG.resources.evaluate.gpu}"]
    options += [f"--batch-size {evaluation.batch_size} --memory-share {evaluation.memory_share}"]
    if evaluation.model_length is not None:
        options += [f"--model-length {evaluation.model_length}"]
    if evaluation.simulated is not None:
        options += [f"--pause {evaluation.simulated.seconds} {evaluation.simulated.sigma}"]
    return " ".join([*options, LOCK_GPUS, IN_PLACE])


def merge_options():
    """Where a merge is made, as options of its command."""
    return f"--device {CONFIG.merge.device} {LOCK_GPUS} {IN_PLACE}"


# A cluster's scheduler assigns GPUs itself; its jobs are processes of their own.
LOCK_GPUS = "--lock-gpus" if workflow.is_main_process else ""
IN_PLACE = "" if CONFIG.merge.materialize else "--in-place"


def print_summary():
    from bambo.report.summary import print_run

    # Not after a smoke run alone.
    if (CONFIG.folder / "tables/selection.csv").exists():
        print_run(CONFIG.folder)
