"""Recipes: what a merged model is made of and how it is scored, written once under the hash of just that."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import BadInput
from .files import content_hash, read_json, write_json

DECIMALS = 6


def make_recipe(
    weights: Mapping[str, Sequence[float]],
    sources: Mapping[str, Mapping[str, str]],
    files_from: str,
    evaluation: Mapping[str, Any],
    method: str = "linear",
) -> dict[str, Any]:
    """Recipe of one candidate.

    weights: per tensor group one weight a source, in the order of `sources`, with sum 1; rounded to 6
    decimals, the last one to what the others leave. sources: name -> {path, fingerprint, sample}. files_from:
    the source whose config, tokenizer and chat template the merged model carries. evaluation: what determines
    the scores.
    """
    recipe: dict[str, Any] = {
        "method": method,
        "sources": {name: dict(source) for name, source in sources.items()},
        "weights": {group: [float(value) for value in values] for group, values in weights.items()},
        "files_from": files_from,
        "evaluation": dict(evaluation),
    }
    check_recipe(recipe, "recipe")
    recipe["weights"] = {group: _rounded(values) for group, values in weights.items()}
    return {"id": candidate_id(recipe), **recipe}


def _rounded(values: Sequence[float]) -> list[float]:
    # + 0.0 turns -0.0, which has another text and so another hash, into 0.0.
    others = [round(float(value), DECIMALS) + 0.0 for value in values[:-1]]
    return [*others, round(1 - math.fsum(others), DECIMALS) + 0.0]


def candidate_id(recipe: Mapping[str, Any]) -> str:
    """First 12 hex digits of the hash of all that determines a candidate's scores.

    Where sources and benchmark files lie and what they are called is not part of it: their hashes are.
    """
    tasks = {
        name: {key: value for key, value in task.items() if key != "data"}
        for name, task in recipe["evaluation"].get("tasks", {}).items()
    }
    fingerprints = {name: source["fingerprint"] for name, source in recipe["sources"].items()}
    identity = {
        "method": recipe["method"],
        "sources": list(fingerprints.values()),  # a list, since the weights are in this order
        "weights": recipe["weights"],
        "files_from": fingerprints[recipe["files_from"]],
        "evaluation": {**recipe["evaluation"], "tasks": tasks},
    }
    return content_hash(identity)[:12]


def write_recipe(run_dir: Path, recipe: Mapping[str, Any]) -> Path:
    """Write candidates/<id>/recipe.json under the run's folder, unless it is there; returns its path."""
    path = Path(run_dir) / "candidates" / recipe["id"] / "recipe.json"
    if not path.exists():
        write_json(path, recipe)
    return path


def read_recipe(path: Path) -> dict[str, Any]:
    """Read and check a recipe; BadInput where a part is missing or the id is not that of the contents."""
    recipe = read_json(path)
    check_recipe(recipe, str(path))
    if recipe.get("id") != candidate_id(recipe):
        raise BadInput(
            f"{path}: id {recipe.get('id')} is not that of the contents, which were changed; "
            f"restore the file, or write id {candidate_id(recipe)} to a new recipe"
        )
    return recipe


def check_recipe(recipe: Any, place: str) -> None:
    """BadInput, beginning with `place`, where a part is missing or the weights do not fit the sources."""
    parts = {"method": str, "sources": dict, "weights": dict, "files_from": str, "evaluation": dict}
    for key, kind in parts.items():
        if not isinstance(recipe, dict) or not isinstance(recipe.get(key), kind):
            raise BadInput(f"{place}: no valid {key}, expected a recipe with {', '.join(parts)}")
    for name, source in recipe["sources"].items():
        for key in ("path", "fingerprint", "sample"):
            if not isinstance(source, dict) or not isinstance(source.get(key), str):
                raise BadInput(f"{place}: source {name} has no {key}; write the recipe anew from its run")
    names = list(recipe["sources"])
    if recipe["files_from"] not in names:
        raise BadInput(f"{place}: files_from is {recipe['files_from']}, expected one of {', '.join(names)}")
    for group, values in recipe["weights"].items():
        numbers = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
        if not numbers or len(values) != len(names) or not abs(math.fsum(values) - 1) <= 10**-DECIMALS:
            raise BadInput(
                f"{place}: weights of {group} are {values}, expected {len(names)} numbers with sum 1"
            )
