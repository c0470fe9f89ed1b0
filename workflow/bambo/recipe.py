"""Recipes: what a merged model is made of and how it is scored, written once under the hash of just that."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .errors import BadInput
from .files import content_hash, read_json, write_json
from .methods import METHODS, check_parameters

DECIMALS = 6


def make_recipe(
    weights: Mapping[str, Sequence[float]],
    sources: Mapping[str, Mapping[str, str]],
    files_from: str,
    evaluation: Mapping[str, Any],
    method: str = "linear",
    *,
    base: Mapping[str, str] | None = None,
    parameters: Mapping[str, Mapping[str, float]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Recipe of one candidate.

    weights: per tensor group one weight a source, in the order of `sources`; rounded to 6 decimals, and where their
    sum is 1, the last one to what the others leave. sources: name -> {path, fingerprint, sample} and, of a LoRA
    adapter, its folder `adapter`. files_from: the source whose config, tokenizer and chat template the merged model
    carries. evaluation: what determines the scores. base: the model of which task vectors are differences, a record
    like a source's; None takes the last source. parameters: the method's, name -> group -> value. options: "rescale":
    "l1" keeps the L1 norm of masked task vectors, as mergekit does, rather than to divide by probabilities; "seed" of
    random masks; "vocabulary": "match" cuts or pads embeddings and head to the size of files_from's.
    """
    recipe: dict[str, Any] = {
        "method": method,
        "sources": {name: dict(source) for name, source in sources.items()},
        "weights": {group: [float(value) for value in values] for group, values in weights.items()},
        "files_from": files_from,
        "evaluation": dict(evaluation),
    }
    if base is not None:
        recipe["base"] = dict(base)
    if parameters:
        recipe["parameters"] = {
            name: {group: float(value) for group, value in values.items()}
            for name, values in parameters.items()
        }
    if options:
        recipe["options"] = dict(options)
    check_recipe(recipe, "recipe")
    recipe["weights"] = {group: rounded_weights(values) for group, values in weights.items()}
    for name, own in recipe.get("parameters", {}).items():
        recipe["parameters"][name] = {group: rounded_number(value) for group, value in own.items()}
    return {"id": candidate_id(recipe), **recipe}


def rounded_weights(values: Sequence[float]) -> list[float]:
    """Weights of a group as recipes have them: to 6 decimals, the last one what is left where their sum is 1."""
    rounded = [rounded_number(value) for value in values]
    if _is_one(values):
        rounded[-1] = rounded_number(1 - math.fsum(rounded[:-1]))
    return rounded


def rounded_number(value: float) -> float:
    """A number as recipes have it."""
    # + 0.0 turns -0.0, which has another text and so another hash, into 0.0.
    return round(float(value), DECIMALS) + 0.0


def _is_one(values: Sequence[float]) -> bool:
    return abs(math.fsum(values) - 1) <= 10**-DECIMALS


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
        # Not there where they are not: then nothing hangs on them, the candidate's name no less.
        **({"base": recipe["base"]["fingerprint"]} if "base" in recipe else {}),
        **{key: recipe[key] for key in ("parameters", "options") if key in recipe},
    }
    return content_hash(identity)[:12]


def asked(recipe: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of the same merge, scored in another way."""
    found = {**recipe, "evaluation": dict(evaluation)}
    return {**found, "id": candidate_id(found)}


def first_stage(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of the same merge that is scored on its first share of the questions alone."""
    return asked(recipe, {**recipe["evaluation"], "stage": "first"})


def whole(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a first stage's merge, scored on all questions."""
    return asked(recipe, {key: value for key, value in recipe["evaluation"].items() if key != "stage"})


def runs(recipe: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Parts of the model that are merged alike, by depth: `layers.0 to layers.3`, weights and parameters."""
    parameters = recipe.get("parameters", {}).values()
    numbers = {
        group: (*own, *(each[group] for each in parameters)) for group, own in recipe["weights"].items()
    }
    for values, alike in groupby(numbers, key=lambda group: numbers[group]):
        first, *_, last = 2 * list(alike)
        yield first if first == last else f"{first} to {last}", values


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
    """BadInput, beginning with `place`, where a part is missing, or weights or parameters do not fit the method."""
    parts = {"method": str, "sources": dict, "weights": dict, "files_from": str, "evaluation": dict}
    for key, kind in parts.items():
        if not isinstance(recipe, dict) or not isinstance(recipe.get(key), kind):
            raise BadInput(f"{place}: no valid {key}, expected a recipe with {', '.join(parts)}")
    if recipe["method"] not in METHODS:
        raise BadInput(f"{place}: method is {recipe['method']}, expected one of {', '.join(METHODS)}")
    models = {f"source {name}": source for name, source in recipe["sources"].items()}
    if "base" in recipe:
        models["base"] = recipe["base"]
    for name, model in models.items():
        for key in ("path", "fingerprint", "sample"):
            if not isinstance(model, dict) or not isinstance(model.get(key), str):
                raise BadInput(f"{place}: {name} has no {key}; write the recipe anew from its run")
    names = list(recipe["sources"])
    if recipe["files_from"] not in names:
        raise BadInput(f"{place}: files_from is {recipe['files_from']}, expected one of {', '.join(names)}")
    if recipe["method"] == "slerp" and len(names) != 2:
        raise BadInput(f"{place}: {len(names)} sources, expected 2 for method slerp")
    _check_weights(recipe, place, len(names))
    _check_parameters(recipe, place)


def _check_weights(recipe: Mapping[str, Any], place: str, count: int) -> None:
    # A task vector may be added by more or less than once; points between models have shares.
    shares = not METHODS[recipe["method"]].task_vectors
    for group, values in recipe["weights"].items():
        numbers = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
        if not numbers or len(values) != count or (shares and not _is_one(values)):
            text = f"{place}: weights of {group} are {values}, expected {count} numbers"
            raise BadInput(text + (" with sum 1" if shares else ""))
        if min(values) < -(10**-DECIMALS):
            raise BadInput(f"{place}: weights of {group} are {values}, expected none below 0")


def _check_parameters(recipe: Mapping[str, Any], place: str) -> None:
    parameters = recipe.get("parameters", {})
    for group in recipe["weights"]:
        values = {name: own[group] for name, own in parameters.items() if group in own}
        check_parameters(f"{place}: parameters of {group}", recipe["method"], values)
