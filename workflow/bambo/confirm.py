"""Chosen models, measured again on answers that did not choose them.

Whoever takes the best of many measured models takes luck along: the front as observed is better than its models are.
New answers to the same questions take away the luck of the draw, held-out questions that of the questions, too. Either
way the models are candidates like any others, of ids of their own, since their recipes ask otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config import Config
from .endpoints import CANDIDATES as END_POINTS
from .errors import BadInput
from .evaluation import check_tasks
from .evaluation.data import data_hash, read_data
from .evaluation.prompts import plain
from .files import read_json
from .recipe import asked, read_recipe
from .run import Run

CANDIDATES = "confirm/candidates.json"
REPEATED, HELD_OUT = "repeated", "held-out"  # questions: the search's, answered anew; others


def check_confirm(config: Config) -> None:
    """BadInput where `confirm` has nothing new to measure, or its held-out questions cannot be used."""
    data = config.confirm.data
    missing = [name for name in config.evaluation.tasks if name not in data]
    if missing and not _draws(config):
        raise BadInput(
            f"confirm.data.{missing[0]}: missing, expected held-out questions, since answers are not drawn "
            "(evaluation.sampling.do_sample is false) and the same questions would be answered the same; add a file of "
            "questions that the search has not seen"
        )
    tasks = {name: task.model_dump() for name, task in config.evaluation.tasks.items()}
    for name, path in data.items():
        if not Path(path).exists():
            raise BadInput(
                f"confirm.data.{name}: found no {path}, expected a file or a folder; correct the path"
            )
    check_tasks({name: {**tasks[name], "data": path} for name, path in data.items()})
    check_held_out(config, {name: task["data"] for name, task in tasks.items() if task["data"]})


def check_held_out(config: Config, searched: Mapping[str, str]) -> None:
    """BadInput where a held-out question is one of those that the search asks: benchmark -> their file or folder.

    The longest text of a row is taken for its question; case and white space do not count.
    """
    for name in config.confirm.data.keys() & searched.keys():
        own, known = (
            {
                _question(row): number
                for number, row in reversed([*enumerate(read_data(Path(path), key).questions, 1)])
            }
            for path, key in (
                (config.confirm.data[name], f"confirm.data.{name}"),
                (searched[name], f"evaluation.tasks.{name}.data"),
            )
        )
        both = sorted(own[text] for text in own.keys() & known.keys())
        if both:
            raise BadInput(
                f"confirm.data.{name}: row {both[0]} of {config.confirm.data[name]} is a question that the search "
                f"asks, as are {len(both) - 1} others; remove them"
            )


def write_confirm(run: Run, config: Config, members: Sequence[str]) -> dict[str, Any]:
    """Write the recipes of models that are measured again; returns what CANDIDATES holds.

    That is, for each kind of questions, `members`, candidate -> the id under which it is measured again, and
    `end_points`, source -> id: 0 and 1 of the objectives on these questions.
    """
    found = {}
    recipes = {id: read_recipe(run.folder / "candidates" / id / "recipe.json") for id in members}
    evaluation = {**run.evaluation, "seed": (run.evaluation["seed"] + 1) % 2**32}
    if _draws(config):
        evaluation = _often(evaluation, config.confirm.repeats)
        found[REPEATED] = {
            "end_points": read_json(run.folder / END_POINTS)["end_points"],
            "members": {id: run.add(asked(recipe, evaluation)) for id, recipe in recipes.items()},
        }
    if config.confirm.data:
        evaluation = _on(evaluation, config.confirm.data)
        ends = {name: asked(run.source_recipe(name), evaluation) for name in run.sources}
        found[HELD_OUT] = {
            "end_points": {name: run.add(recipe) for name, recipe in ends.items()},
            "members": {id: run.add(asked(recipe, evaluation)) for id, recipe in recipes.items()},
        }
    return found


def confirm_ids(run_dir: Path) -> set[str]:
    """Candidates of `results/<run>` that were made to measure others again; none where there are none."""
    try:
        kinds = read_json(run_dir / CANDIDATES)
        searched = set(read_json(run_dir / END_POINTS)["end_points"].values())
    except BadInput:
        return set()
    return {id for kind in kinds.values() for part in kind.values() for id in part.values()} - searched


def _draws(config: Config) -> bool:
    """Whether another seed gives other answers."""
    return config.evaluation.sampling.do_sample or config.evaluation.engine == "simulated"


def _often(evaluation: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """The evaluation with `factor` times as many answers to each question."""
    tasks = {
        name: {**task, "repeats": task.get("repeats", evaluation["repeats"]) * factor}
        for name, task in evaluation["tasks"].items()
    }
    return {**evaluation, "tasks": tasks}


def _on(evaluation: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """The evaluation on other questions, all of them, where there are some."""
    tasks = {name: dict(task) for name, task in evaluation["tasks"].items()}
    for name, path in data.items():
        tasks[name].pop("stratify", None)
        tasks[name] |= {"data": path, "data_hash": data_hash(Path(path)), "limit": None}
    return {key: value for key, value in evaluation.items() if key != "first_share"} | {"tasks": tasks}


def _question(row: Mapping[str, Any]) -> str:
    return plain(max((str(value) for value in row.values()), key=len))
