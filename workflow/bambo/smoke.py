"""A look before the leap: each source and their balance on a few questions of every benchmark.

They are candidates like any others, of ids of their own, since their recipes ask fewer questions.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .endpoints import CANDIDATES as END_POINTS
from .errors import BadInput
from .files import read_json
from .run import Run

CANDIDATES = "smoke/candidates.json"
QUESTIONS = 4  # of every benchmark, answered once
BALANCED = "balanced"  # the linear merge with equal weights


def write_smoke(run: Run) -> dict[str, str]:
    """Write the recipes; returns name -> id, the names being those of the sources and BALANCED."""
    asked = few(run.evaluation)
    small = replace(run, evaluation=asked, end_point_evaluation=asked)
    recipes = {name: small.source_recipe(name) for name in run.sources}
    recipes[BALANCED] = small.recipe(run.everywhere([1 / len(run.sources)] * len(run.sources)))
    return {name: small.add(recipe) for name, recipe in recipes.items()}


def few(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation part of a recipe with QUESTIONS questions a benchmark, or fewer if it has them, and no repeats."""
    tasks = {}
    for name, task in evaluation["tasks"].items():
        limits = [limit for limit in (task.get("limit"), evaluation["limit"]) if limit]
        tasks[name] = {key: value for key, value in task.items() if key != "repeats"}
        tasks[name]["limit"] = min([*limits[:1], QUESTIONS])
    return {**evaluation, "repeats": 1, "tasks": tasks}


def smoke_ids(run_dir: Path) -> set[str]:
    """Candidates of `results/<run>` that were made for a smoke run alone; none where there was none."""
    try:
        ids = set(read_json(run_dir / CANDIDATES).values())
        ends = run_dir / END_POINTS
        named = read_json(ends) if ends.exists() else {"end_points": {}, "own_files": {}}
    except BadInput:
        return set()
    return ids - {*named["end_points"].values(), *named["own_files"].values()}
