"""The end points of a run: each source alone, under the run's files and under its own."""

from collections.abc import Mapping
from typing import Any

from .errors import BadInput
from .run import Run

CANDIDATES = "endpoints/candidates.json"


def write_end_points(run: Run, begun: Mapping[str, Any] | None = None) -> dict[str, dict[str, str]]:
    """Write the recipes of the pure sources; returns {"end_points": source -> id, "own_files": source -> id}.

    The end points carry the files (chat template, ...) that all candidates carry, so that the search sees one
    function; under its own files each source is a reference row of the tables. For the source that gives its
    files to all, both are the same candidate. `begun` is what was returned when the run began: BadInput where the
    sources have changed since, which would mix old candidates with new ones.
    """
    recipes = {
        "end_points": {name: run.source_recipe(name) for name in run.sources},
        "own_files": {name: run.source_recipe(name, files_from=name) for name in run.sources},
    }
    ids = {kind: {name: recipe["id"] for name, recipe in own.items()} for kind, own in recipes.items()}
    if begun is not None:
        for name, id in ids["own_files"].items():
            if begun["own_files"][name] != id:
                raise BadInput(
                    f"sources.{name}.model: the files in {run.sources[name]['path']} have changed since the run began; "
                    "restore them, or give the run another name (key `run`)"
                )
    for own in recipes.values():
        for recipe in own.values():
            run.add(recipe)
    return ids
