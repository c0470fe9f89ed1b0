"""Reading a config, and checking its tables against each other."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from ..evaluation.scores import COLUMNS as OF_QUESTIONS
from ..methods import PARAMETERS
from ..objectives import METRICS
from .errors import Location, Problem, bad_input, found, nearest, schema_problems
from .importance import importance_problems
from .methods import weightless
from .models import Config, Objective
from .search_checks import search_problems, start_problems

# Columns that the tables have beside those of metrics and objectives.
COLUMNS = {
    *["search", "iteration", "candidate", "origin", "variables", "seconds", "status", "failure", "reason"],
    *["warning", "front", "found_by", "name", "preference", "evaluations", "hypervolume", "front_size"],
    *["reference_point", "export", "method", "granularity", "union_front"],
}


def load(given: Any) -> Config:
    """Check a config as it was read from YAML, and fill in what it omits.

    Raises BadInput: one line that names the first wrong key in the order of the config and counts the others.
    """
    given = _with_seeds(given)
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        raise bad_input(schema_problems(error, given), given) from None
    problems = [
        *_sources(config),
        *_objectives(config),
        *_limits(config),
        *_preferences(config),
        *_sampling(config),
        *_device(config),
        *_engine(config),
        *_stages(config),
        *_held_out(config),
        *_merge(config),
        *importance_problems(config),
        *_slots(config),
    ]
    kept = {}
    for name, search in config.searches.items():
        problems += search_problems(name, search, set(given["searches"][name]), config)
        reason = weightless(config, search)
        if reason is None:
            kept[name] = search
        elif search.without_base == "leave-out":
            config.left_out[name] = reason
        else:
            text = "set base to the model that the sources were trained from, or without_base: leave-out"
            problems.append((("searches", name, "method"), f"found {search.method}, but {reason}; {text}"))
    for name in kept:
        problems += start_problems(name, config)
    if not kept and not problems:
        problems.append((("searches",), "all are left out for want of a base; set base, or add another"))
    if problems:
        raise bad_input(problems, given)
    return config.model_copy(update={"searches": kept})


def _with_seeds(given: Any) -> Any:
    """The config with a search of each seed in the place of one with `seeds`; what is wrong stays, to be reported."""
    tables = given.get("searches") if isinstance(given, dict) else None
    if not isinstance(tables, dict):
        return given
    seeds = {name: _seeds(name, tables) for name in tables}
    searches: dict[str, Any] = {}
    for name, own in tables.items():
        for seed in seeds[name]:
            one = {key: value for key, value in own.items() if key != "seeds"} | {"seed": seed}
            start = own.get("start_from")
            if isinstance(start, str) and seed in seeds.get(start, []):
                one["start_from"] = f"{start}-{seed}"
            searches[f"{name}-{seed}"] = one
        if not seeds[name]:
            searches[name] = own
    return {**given, "searches": searches}


def _seeds(name: str, searches: dict[str, Any]) -> list[int]:
    """The seeds of a search, if they are ones, none twice, and nothing else is called as they are."""
    own = searches[name]
    seeds = own.get("seeds") if isinstance(own, dict) and "seed" not in own else None
    if not isinstance(seeds, list) or any(type(seed) is not int or seed < 0 for seed in seeds):
        return []
    taken = any(f"{name}-{seed}" in searches for seed in seeds)
    return [] if taken or len(set(seeds)) < len(seeds) else seeds


def _sources(config: Config) -> Iterator[Problem]:
    names = list(config.sources)
    for place, name in enumerate(names):
        for before in names[:place]:
            if config.sources[name] == config.sources[before]:
                yield ("sources", name), f"found the model of sources.{before} again, expected another"
        if len(names) > 2 and name in PARAMETERS:
            yield ("sources", name), "a variable may be called so; give the source another name"
    if config.files_from not in names:
        yield (
            ("files_from",),
            f"found {found(config.files_from)}, which is no source{nearest(config.files_from, names)}",
        )


def _objectives(config: Config) -> Iterator[Problem]:
    sources, tasks = list(config.sources), list(config.evaluation.tasks)
    if len(config.reference_point) != len(config.objectives):
        text = f"found {len(config.reference_point)} numbers, expected {len(config.objectives)}, one an objective"
        yield ("reference_point",), f"{text}; correct it, or leave it out"
    for name, objective in config.objectives.items():
        place: Location = ("objectives", name)
        if name in {*COLUMNS, *METRICS, *(each.metric for each in config.objectives.values())}:
            yield place, "the tables have a column of this name; give the objective another"
        for key, source in (("expert", objective.expert), ("base", objective.base)):
            if source not in sources:
                yield (*place, key), f"found {found(source)}, which is no source{nearest(source, sources)}"
        if objective.expert == objective.base:
            yield (
                (*place, "base"),
                f"found {found(objective.base)}, which is also the expert, expected the other source",
            )
        for i, task in enumerate(objective.benchmarks or []):
            if task not in tasks:
                yield (
                    (*place, "benchmarks", i),
                    f"found {found(task)}, which is no task{nearest(task, tasks)}",
                )
        yield from _metric(config, name, objective)


def _metric(config: Config, name: str, objective: Objective) -> Iterator[Problem]:
    """What a metric that BAMBO knows asks of other keys; those of the harness are known to task files (preflight)."""
    metric = objective.metric
    if metric not in METRICS:
        return
    if METRICS[metric].of == "candidate" and objective.benchmarks is not None:
        text = f"of no use with metric: {metric}, which is measured on all answers together; remove it"
        yield ("objectives", name, "benchmarks"), text
    if metric == "cost" and not any(config.evaluation.prices.model_dump().values()):
        text = f"missing, expected a price for metric: cost of objectives.{name}; add one"
        yield ("evaluation", "prices"), text
    if metric == "energy" and config.evaluation.device == "cpu" and config.evaluation.engine != "simulated":
        yield (
            ("objectives", name, "metric"),
            "found energy, which only GPUs measure, but evaluation.device is cpu; take another metric",
        )


def _limits(config: Config) -> Iterator[Problem]:
    own = [objective.metric for objective in config.objectives.values() if objective.metric not in METRICS]
    per_task = [name for name, metric in METRICS.items() if metric.of == "benchmark"] + own
    metrics = ["seconds", *METRICS, *own, *config.objectives]
    metrics += [f"{task}.{metric}" for task in config.evaluation.tasks for metric in [*per_task, "truncated"]]
    for metric, limit in config.selection.limits.items():
        place = ("selection", "limits", metric)
        if metric not in metrics:
            yield place, f"unknown metric{nearest(metric, metrics)}"
        if limit.min is None and limit.max is None:
            yield place, "found neither min nor max, expected one or both; add it"
        elif limit.min is not None and limit.max is not None and limit.min > limit.max:
            yield place, f"found min {limit.min:g} above max {limit.max:g}, expected them the other way round"


def _preferences(config: Config) -> Iterator[Problem]:
    names = list(config.objectives)
    for name, weights in config.selection.preferences.items():
        if len(weights) != len(names) or not any(weights):
            text = f"found {found(weights)}, expected {len(names)} weights ({', '.join(names)}), one of them above 0"
            yield ("selection", "preferences", name), f"{text}; correct it"


def _sampling(config: Config) -> Iterator[Problem]:
    evaluation = config.evaluation
    draws = evaluation.sampling.do_sample
    for key, value in evaluation.sampling.model_dump(exclude={"do_sample"}).items():
        place: Location = ("evaluation", "sampling", key)
        # Engines differ in what they take from a checkpoint when they are not told.
        if draws and value is None:
            yield place, "missing, expected a number since do_sample is true; add it (see config/README.md)"
        if not draws and value is not None:
            text = f"found {found(value)}, expected null since do_sample is false"
            yield place, f"{text}; remove it or set do_sample: true"
    repeats: dict[Location, int | None] = {("evaluation", "repeats"): evaluation.repeats}
    for name, task in evaluation.tasks.items():
        repeats["evaluation", "tasks", name, "repeats"] = task.repeats
    for place, count in repeats.items():
        if not draws and count not in (None, 1):
            text = f"found {count}, expected 1 since do_sample is false"
            yield place, f"{text} and every repeat would answer the same; lower it or set do_sample: true"


def _held_out(config: Config) -> Iterator[Problem]:
    for name in config.confirm.data:
        if name not in config.evaluation.tasks:
            yield (
                ("confirm", "data", name),
                f"found no such benchmark{nearest(name, config.evaluation.tasks)}",
            )


def _device(config: Config) -> Iterator[Problem]:
    if config.evaluation.device == "cuda" and config.resources.evaluate.gpu == 0:
        yield ("resources", "evaluate", "gpu"), "found 0, expected 1 or more with device: cuda; raise it"


def _engine(config: Config) -> Iterator[Problem]:
    evaluation = config.evaluation
    if (evaluation.engine == "server") != (evaluation.server is not None):
        found_engine = f"found engine: {evaluation.engine}"
        text = (
            "expected a table for engine: server; add it" if evaluation.server is None else "remove the table"
        )
        yield ("evaluation", "server"), f"{found_engine}, {text}"
    if evaluation.simulated is not None and evaluation.engine != "simulated":
        yield ("evaluation", "simulated"), f"of no use with engine: {evaluation.engine}; remove it"
    room = evaluation.model_length
    if room is not None and evaluation.max_tokens >= room:
        text = f"found {room}, expected more than the {evaluation.max_tokens} of max_tokens, with room for a prompt"
        yield ("evaluation", "model_length"), f"{text}; raise it"
    for name, task in evaluation.tasks.items():
        if task.stratify is not None and (task.limit or evaluation.limit) is None:
            text = "of no use without a limit, since all questions are asked; set one or remove it"
            yield ("evaluation", "tasks", name, "stratify"), text
    if not config.merge.materialize and evaluation.engine == "server":
        text = "found false, expected true with engine: server, which reads models from folders; remove it"
        yield ("merge", "materialize"), text
    if config.merge.materialize and evaluation.candidates_per_job > 1:
        text = f"found {evaluation.candidates_per_job}, expected 1 where models are written to disk"
        yield ("evaluation", "candidates_per_job"), f"{text}; set merge.materialize: false"


def _stages(config: Config) -> Iterator[Problem]:
    """What searches with `leave` need, and what is of no use without one."""
    staged = [name for name, search in config.searches.items() if search.leave is not None]
    if not staged:
        if config.evaluation.first_share is not None:
            yield (
                ("evaluation", "first_share"),
                "of no use without a search with leave; remove it, or set leave",
            )
        return
    if config.evaluation.first_share is None:
        text = f"missing, expected a share of the questions for leave of searches.{staged[0]}; add it"
        yield ("evaluation", "first_share"), text
    for name, objective in config.objectives.items():
        if objective.metric not in OF_QUESTIONS:
            text = f"found {objective.metric}, expected {' or '.join(OF_QUESTIONS)} with leave of searches.{staged[0]}"
            yield ("objectives", name, "metric"), f"{text}, which compares question by question; remove leave"


def _merge(config: Config) -> Iterator[Problem]:
    if config.merge.device == "cuda" and not config.merge.materialize:
        yield ("merge", "device"), "found cuda, of no use with materialize: false; remove it"


def _slots(config: Config) -> Iterator[Problem]:
    each = config.evaluation.candidates_per_job
    if each > 1 and all(search.schedule == "async" for search in config.searches.values()):
        text = (
            f"found {each}, of no use where all searches have schedule: async, which hand out one at a time"
        )
        yield ("evaluation", "candidates_per_job"), f"{text}; remove it"
