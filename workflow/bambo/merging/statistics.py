"""What masks need to know of whole tensors: gathered once for a run, and kept beside the sources' fingerprints."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..candidate.lease import hold
from ..files import content_hash
from ..methods import METHODS
from ..records import Damaged, read_record, write_record
from .parts import Part, Statistics, parts_of
from .sources import Sources

RECORD = "statistics"


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch itself on one thread: the parallel work goes over tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def gathered(
    recipe: Mapping[str, Any], sources: Sources, threads: int, cache: Path | None
) -> dict[str, Statistics]:
    """Statistics of every tensor that has some.

    cache: a folder that all recipes of a run share: there lies what was gathered before for the same sources and
    parameters; weights do not matter. Parameters that differ between groups, as those that are searched, are of one
    candidate, and so are their statistics. One process at a time gathers for a folder; others wait and read.
    """
    key = _key(recipe)
    if key is None or cache is None:
        return _gather(parts_of(recipe, sources), threads)
    folder = cache / key
    with hold(folder):
        path = folder / f"{RECORD}.json"
        if path.exists():
            try:
                return _decoded(read_record(path, RECORD)["tensors"])
            except Damaged:
                pass  # gathered anew
        found = _gather(parts_of(recipe, sources, every_source=True), threads)
        write_record(path, RECORD, {"tensors": found})
        return found


def _key(recipe: Mapping[str, Any]) -> str | None:
    """Hash of all that the statistics depend on; None where they are of this recipe alone."""
    method = METHODS[recipe["method"]]
    if method.sparsifier == "none" and recipe["method"] != "slerp":
        return None  # there are none
    options = recipe.get("options", {})
    if method.random and "rescale" not in options:
        return None
    parameters = {
        name: set(own.values()) for name, own in recipe.get("parameters", {}).items() if name != "lambda"
    }
    if any(len(values) > 1 for values in parameters.values()):
        return None
    models = [*recipe["sources"].values(), *([recipe["base"]] if "base" in recipe else [])]
    decided_by = {
        "kind": recipe["method"] if method.sparsifier == "none" else method.sparsifier,
        "models": [model["fingerprint"] for model in models],
        "base": "base" in recipe,
        "template": recipe["sources"][recipe["files_from"]]["fingerprint"],
        "parameters": {name: min(values) for name, values in parameters.items()},
        "options": options,
    }
    return content_hash(decided_by)[:12]


def _gather(parts: Mapping[str, Part], threads: int) -> dict[str, Statistics]:
    largest_first = sorted(parts.values(), key=lambda part: -part.count)
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        found = pool.map(Part.statistics, largest_first)
        return {part.name: values for part, values in zip(largest_first, found, strict=True) if values}


def _decoded(tensors: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Statistics]:
    """JSON has no numbers as keys."""
    return {name: {int(place): values for place, values in own.items()} for name, own in tensors.items()}
