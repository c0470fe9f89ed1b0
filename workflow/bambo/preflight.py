"""What can be known before any job runs: what is wrong, and how many evaluations can run at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .candidate import devices
from .checkpoint import EMBEDDINGS, HEAD, Checkpoint, groups, modules, open_checkpoint
from .compatibility import check_compatible
from .config import (
    Config,
    check_blocks,
    check_paths,
    check_prompts,
    check_unchanged,
    check_writable,
    deciding,
    is_hub_id,
    needs_base,
    run_settings,
    search_settings,
)
from .disk import Space, check_space
from .errors import BadInput
from .evaluation import check_tasks
from .evaluation.metrics import harness_metrics
from .files import read_json
from .methods import PARAMETERS
from .objectives import METRICS, check_metric
from .search.stopping import planned_evaluations, slots
from .templates import check_templates

# Evaluations a variable below which a user is told. On simulated landscapes with the noise of 30 and 198 questions, 88
# evaluations of 38 variables (2.3 each) came to .81 of the best hypervolume known, an equal grid of single weights to
# .82; 88 of 8 variables to .94, the grid to .89.
LEAST_PER_VARIABLE = 3


# At a time: slots of one search decide one after the other, and each that waits holds some hundred megabytes.
PROPOSALS = 4


@dataclass(frozen=True)
class Places:
    """Where evaluations run: `count` at a time at most; `gpus` of this machine, None where a scheduler assigns them.

    limits: what Snakemake is to hand out of the resources of merges and evaluations; none where a scheduler does.
    """

    count: int
    gpus: int | None
    limits: dict[str, int]


def parallel_evaluations(
    config: Config, cores: int | None, nodes: int | None, resources: Mapping[str, Any]
) -> Places:
    """How many evaluations can run at a time.

    cores, nodes, resources: as given to Snakemake; nodes (jobs at a time) where another executor runs the jobs.
    """
    # No more than the searches ask for together.
    batches = [search_settings(config, name) for name in config.searches]
    wanted = sum(
        slots(settings)
        if settings["schedule"] == "async"
        else max(settings["n_initial"], settings["batch_size"])
        for settings in batches
    )
    wanted += 2 * len(config.sources) - 1  # the end points, under the run's files and their own
    if nodes is not None:
        return Places(min(nodes, wanted), None, {})
    on_gpu = config.evaluation.device != "cpu" and config.evaluation.engine != "simulated"
    each = config.resources.evaluate.gpu if on_gpu else 0
    gpus = len(devices.gpus()) if each else 0
    limits = {"gpu": gpus} if gpus and "gpu" not in resources else {}
    places = (cores or 1) // config.evaluation.threads
    if each and (gpus or "gpu" in resources):
        limit = resources["gpu"].value if "gpu" in resources else gpus
        places = min(places, limit // each)
    places = max(1, places)
    # One merge at a time, and none that no evaluation waits for: at most one more model than evaluations at work.
    limits |= {"model": places, "merging": 1, "proposing": PROPOSALS}
    return Places(min(places, wanted), gpus, limits)


def check(config: Config, parallel: int) -> Space | None:
    """BadInput for what the config names and does not find, or finds other than it must be. Reads headers only.

    Sources on the hub are checked by their jobs, which download them. Returns the disk space that `parallel`
    evaluations at a time need, where it is known.
    """
    check_paths(config)
    _check_sources(config)
    template_notes(config)
    check_tasks({name: task.model_dump() for name, task in config.evaluation.tasks.items()})
    check_objectives(config)
    check_prompts(config)
    folder = config.folder
    check_writable(folder)
    _check_unchanged(config, folder)
    return check_space(config, parallel)


def check_objectives(config: Config) -> None:
    """BadInput where an objective's metric is none of ours, and none that the files of its benchmarks' tasks list."""
    tasks = {name: task.model_dump() for name, task in config.evaluation.tasks.items()}
    for name, objective in config.objectives.items():
        if objective.metric in METRICS:
            continue
        for benchmark in objective.benchmarks or tasks:
            metrics = harness_metrics(benchmark, tasks[benchmark])
            if metrics:
                check_metric(objective.metric, metrics, benchmark, f"objectives.{name}.metric")


def _check_sources(config: Config) -> None:
    paths = [(source.model, source.adapter) for source in config.sources.values()]
    local = [each for each in paths if not any(map(is_hub_id, filter(None, each)))]
    checkpoints = [open_checkpoint(*each) for each in local]
    base = None
    if config.base is not None and needs_base(config) and not is_hub_id(config.base.model):
        base = open_checkpoint(config.base.model)
    check_compatible(checkpoints, config.merge.vocabulary, base)
    for checkpoint in checkpoints:
        check_blocks(config, checkpoint.layers)
        _check_length(config, checkpoint)


def _check_length(config: Config, checkpoint: Checkpoint) -> None:
    """Room for an answer and something of a prompt; whether all prompts fit, their tokens tell in the evaluation."""
    evaluation = config.evaluation
    own = checkpoint.config.get("max_position_embeddings")
    if own is None or evaluation.engine == "simulated":
        return
    if evaluation.model_length is not None and evaluation.model_length > own:
        raise BadInput(
            f"evaluation.model_length: {evaluation.model_length}, but {checkpoint.path} was made for {own} tokens "
            "(max_position_embeddings in its config.json); lower it"
        )
    for name, task in evaluation.tasks.items():
        key = "evaluation.max_tokens" if task.max_tokens is None else f"evaluation.tasks.{name}.max_tokens"
        longest = task.max_tokens or evaluation.max_tokens
        if longest >= (evaluation.model_length or own):
            raise BadInput(
                f"{key}: {longest}, but {checkpoint.path} has room for {evaluation.model_length or own} tokens of "
                "prompt and answer together; lower it"
            )


def slot_notes(config: Config, parallel: int) -> list[str]:
    """What to know of asynchronous searches that have more slots than `parallel` evaluations at a time."""
    notes = []
    for name in config.searches:
        settings = search_settings(config, name)
        if settings["schedule"] == "async" and slots(settings) > parallel:
            text = f"{slots(settings)} slots, but {parallel} evaluations at a time: the others wait in line"
            notes.append(f"searches.{name}: {text}, and proposals know less than they could; lower slots")
    return notes


def dimension_notes(config: Config) -> list[str]:
    """Searches that evaluate little for their number of variables, before any is folded into its neighbour.

    What they start from counts: they know it, too. Nothing is said where no source is in a local folder yet.
    """
    local = [source for source in config.sources.values() if not is_hub_id(source.model)]
    if not local:
        return []
    members = groups(open_checkpoint(local[0].model))
    notes = []
    for name in config.searches:
        settings = search_settings(config, name)
        count = _variables(members, settings, len(config.sources))
        evaluations, coarser = planned_evaluations(settings), settings["start_from"]
        while coarser is not None:
            further = search_settings(config, coarser)
            evaluations, coarser = evaluations + planned_evaluations(further), further["start_from"]
        if settings["optimiser"] == "bayesian" and count > 1 and evaluations < LEAST_PER_VARIABLE * count:
            notes.append(
                f"searches.{name}: {evaluations} evaluations of {count} variables, {evaluations / count:.1f} each, "
                f"where {LEAST_PER_VARIABLE} are few: simulated searches then did little or no better than a grid of "
                "single weights; raise iterations, or search blocks, or start_from them"
            )
    return notes


def _variables(members: Mapping[str, Sequence[str]], settings: Mapping[str, Any], sources: int) -> int:
    """How many variables a search has at most; members: tensors of each group of the models."""
    ends = len({EMBEDDINGS, HEAD} & members.keys())
    parts = {
        "model": 1,
        "layer": len(members),
        "module": sum(len(modules(group, names)) for group, names in members.items()),
    }.get(settings["strategy"], (settings["n_blocks"] or 0) + ends)
    searched = [name for name in PARAMETERS if isinstance(settings.get(name), Mapping)]
    return parts * (sources - 1 + len(searched))


def template_notes(config: Config, found: Mapping[str, Path] | None = None) -> list[str]:
    """What to know of the sources' chat templates; BadInput where `files_from` has none.

    found: source -> folder, once those on the hub are here; before that, local ones alone are looked at. What could be
    told before is not told again.
    """
    local = {
        name: Path(source.model) for name, source in config.sources.items() if not is_hub_id(source.model)
    }
    told = found is not None and len(local) == len(found)
    folders = local if found is None else found
    if config.evaluation.engine == "simulated" or told or config.files_from not in folders:
        return []
    return check_templates(folders, config.files_from)


def _check_unchanged(config: Config, folder: Path) -> None:
    """What was begun goes on with the settings that it was begun with, or under another name."""
    begun = {"run": (folder / "endpoints" / "candidates.json", run_settings(config))}
    for search in config.searches:
        begun[f"searches.{search}"] = (
            folder / "search" / search / "variables.json",
            deciding(config, search),
        )
    for place, (record, settings) in begun.items():
        if record.exists():
            check_unchanged(place, read_json(record)["settings"], settings)
