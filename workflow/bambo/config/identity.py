"""What decides a candidate's score and a search's proposals."""

from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..evaluation.data import data_hash
from ..evaluation.tasks import READING, task_hash
from ..files import content_hash, read_json
from ..methods import METHODS, PARAMETERS
from ..objectives import depends_on_device
from ..search.presets import NEUTRAL
from ..search.stopping import budget
from .errors import one_line, shown
from .evaluation import Evaluation
from .importance import asking, importance_identity
from .methods import grid_weights
from .models import Config, Source
from .searches import Span
from .table import IDENTITY

# May change within a run: they say when a search ends, not what it proposes.
BUDGET = ("iterations", "evaluations", "stop", "slots")


def search_settings(config: Config, search: str) -> dict[str, Any]:
    """Settings of a search with all keys filled: its own, its preset's, and those of `blocks`.

    `strategy` says how to cut at every granularity ("layer" and "model" are strategies, too); `n_blocks` is
    None where that leaves no choice, `n_initial` the number of weights of a grid. Of parameters and `rescale` there
    are those that the method has; a parameter is a number, or {"min", "max"} where it is searched.
    """
    own = config.searches[search]
    unused = {"preset", "without_base", *PARAMETERS}
    if not METHODS[own.method].random:
        unused.add("rescale")
    settings = {key: value for key, value in own.model_dump(by_alias=True).items() if key not in unused}
    for name, value in own.parameters.items():
        settings[name] = value.model_dump() if isinstance(value, Span) else float(value)
    if settings["granularity"] != "block":
        settings["strategy"] = settings["granularity"]
    elif settings["strategy"] is None:
        settings["strategy"] = config.blocks.strategy
    if settings["strategy"] in ("module", "layer", "model"):
        settings["n_blocks"] = None
    elif settings["n_blocks"] is None:
        settings["n_blocks"] = config.blocks.n_blocks
    if settings["initial"] == "grid":
        settings["weights"] = grid_weights(own)
        settings["n_initial"] = len(settings["weights"])
    else:
        settings["weights"] = None
    return settings


def iterations(config: Config, search: str) -> int:
    """Iterations within a search's budget: fewer than `iterations` where `evaluations` runs out before.

    Where each candidate is an iteration of its own, of an asynchronous search, that is all its evaluations.
    """
    return budget(search_settings(config, search))


def evaluation_identity(config: Config, end_point: bool) -> dict[str, Any]:
    """The evaluation part of a recipe: settings marked as identity, and where the data lies.

    End points are asked `end_point_repeats` times as often where answers are drawn. A task holds its own
    overrides, and `max_tokens` always; `data_hash` is the sha256 of local benchmark data, `task_hash` that of the
    task's file and what it needs, `reading` the version of our prompts and of how answers are read.

    BadInput: one of these files cannot be read.
    """
    evaluation = config.evaluation
    fields = Evaluation.model_fields.items()
    marked = {key for key, field in fields if field.json_schema_extra == IDENTITY}
    settings = evaluation.model_dump(include=marked)
    for key in ("server", "first_share"):
        if settings[key] is None:
            del settings[key]
    settings["sampling"] = evaluation.sampling.model_dump(exclude_none=True)
    factor = settings.pop("end_point_repeats")
    factor = factor if end_point and evaluation.sampling.do_sample else 1
    settings["repeats"] *= factor
    max_tokens = settings.pop("max_tokens")
    settings["tasks"] = {}
    for name, task in evaluation.tasks.items():
        entry = task.model_dump(exclude_none=True)
        entry.setdefault("max_tokens", max_tokens)
        if task.repeats is not None:
            entry["repeats"] = task.repeats * factor
        if task.data is not None:
            entry["data_hash"] = _hash(f"evaluation.tasks.{name}.data", task.data)
        entry["task_hash"] = task_hash(name, task.task)
        if task.scoring == "boxed":
            entry["reading"] = READING
        settings["tasks"][name] = entry
    return settings


def needs_base(config: Config) -> bool:
    """Whether a base is set, and makes a difference to a search."""
    return config.base is not None and any(search.depends_on_base for search in config.searches.values())


def hub_benchmarks(config: Config) -> list[str]:
    """Benchmarks whose data a job of the run downloads: those without data of the user, where a model is asked."""
    if config.evaluation.engine == "simulated":
        return []
    return [name for name, task in config.evaluation.tasks.items() if task.data is None]


def hub_data(config: Config) -> dict[str, dict[str, str]]:
    """What a recipe says of the data of each of `hub_benchmarks`: where they lie, and their hash.

    BadInput where benchmarks/<name>.json is missing or damaged.
    """
    folder = config.folder / "benchmarks"
    return {
        name: {"data": str(folder / name), "data_hash": read_json(folder / f"{name}.json")["data_hash"]}
        for name in hub_benchmarks(config)
    }


def _hash(key: str, path: str) -> str:
    try:
        return data_hash(Path(path))
    except OSError as error:
        text = f"{key}: cannot read {path} ({error.strerror}), expected a file or a folder"
        raise BadInput(f"{text}; correct the path") from None


def run_settings(config: Config) -> dict[str, Any]:
    """All settings that every candidate of a run shares, by dotted key; JSON-able.

    Benchmarks stand for their contents, wherever they lie; sources for what the config calls them, since it
    does not know their fingerprints.
    """
    evaluation = evaluation_identity(config, end_point=False)
    for task in evaluation["tasks"].values():
        task.pop("data", None)
    if config.evaluation.sampling.do_sample:
        evaluation["end_point_repeats"] = config.evaluation.end_point_repeats
    sources = {name: _record(source) for name, source in config.sources.items()}
    tables = {"sources": sources, "files_from": config.files_from, "evaluation": evaluation}
    if config.merge.vocabulary != "exact":
        tables["merge"] = {"vocabulary": config.merge.vocabulary}
    # The order of the sources counts: weights are the first one's.
    return {"sources": list(config.sources)} | _flat(tables)


def _record(source: Source) -> dict[str, Any]:
    """A source's keys; without an adapter there is nothing to say of one."""
    return {key: value for key, value in source.model_dump().items() if key != "adapter" or value is not None}


def deciding(config: Config, search: str) -> dict[str, Any]:
    """All settings that decide a search's proposals, by dotted key, JSON-able; no budget and no stop rule."""
    settings = search_settings(config, search)
    all_tasks = list(config.evaluation.tasks)
    tables: dict[str, Any] = {
        "blocks": {"norm": config.blocks.norm},
        **_own_table(config, search),
        "objectives": {
            name: {**objective.model_dump(), "benchmarks": objective.benchmarks or all_tasks}
            for name, objective in config.objectives.items()
        },
    }
    if settings["reference"] == "fixed":
        tables["reference_point"] = config.reference_point
    if measuring := _measuring(config):
        tables["evaluation"] = measuring
    if config.base is not None and config.searches[search].depends_on_base:
        tables["base"] = config.base.model_dump()
    if search in asking(config):
        tables["importance"] = importance_identity(config)
    if METHODS[settings["method"]].random:
        tables["merge"] = {"seed": config.merge.seed}
    return run_settings(config) | {"objectives": list(config.objectives)} | _flat(tables)


def search_tables(config: Config, search: str) -> dict[str, Any]:
    """The part of `deciding` that stands in the search's own table; no file is read for it."""
    return _flat(_own_table(config, search))


def _own_table(config: Config, search: str) -> dict[str, Any]:
    settings = search_settings(config, search)
    return {"searches": {search: {key: value for key, value in settings.items() if _decides(key, value)}}}


def _decides(key: str, value: Any) -> bool:
    return key not in BUDGET and not (key in NEUTRAL and value == NEUTRAL[key])


def _measuring(config: Config) -> dict[str, Any]:
    """What else decides the objectives: prices, and how a machine is used where it is what is measured."""
    evaluation, metrics = config.evaluation, {each.metric for each in config.objectives.values()}
    prices = evaluation.prices.model_dump()
    measuring: dict[str, Any] = {"prices": prices} if "cost" in metrics else {}
    if any(depends_on_device(metric, prices) for metric in metrics):
        measuring |= {"batch_size": evaluation.batch_size, "threads": evaluation.threads}
        measuring["gpus"] = config.resources.evaluate.gpu
    return measuring


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def settings_hash(decided_by: dict[str, Any]) -> str:
    """The hash that a search carries, of what `deciding` gives."""
    return content_hash(decided_by)


def changed_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Dotted keys whose values differ or that only one side has, in the order of the new settings."""
    return [key for key in {**new, **old} if key not in old or key not in new or old[key] != new[key]]


def check_unchanged(place: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Check that what was begun goes on with the same settings; BadInput names the place and what changed."""
    changes = [f"{key}: {_shown(old, key)} -> {_shown(new, key)}" for key in changed_keys(old, new)]
    if changes:
        text = f"{place}: was started with other settings ({'; '.join(changes)})"
        raise BadInput(one_line(f"{text}; set them back, or give the run another name"))


def _shown(settings: dict[str, Any], key: str) -> str:
    return shown(settings[key]) if key in settings else "not there"
