"""Chosen models, merged again and put where they can be served from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .candidate.work import SIMULATED
from .errors import BadInput
from .files import atomic, read_json, write_json
from .merging import merge


def export(
    run: Path, choices: Sequence[Mapping[str, Any]], models: Path, threads: int = 2
) -> list[dict[str, Any]]:
    """Write models/<name>/ for every choice: a complete Hugging Face folder, and the recipe that makes it.

    choices: rows of selection.csv with name and candidate. Returns the rows of models/index.json. Folders that are
    there are made again; each is whole or absent. BadInput where the scores that they were chosen by are simulated.
    """
    index = []
    for choice in choices:
        recipe = read_json(run / "candidates" / choice["candidate"] / "recipe.json")
        if recipe["evaluation"]["engine"] == SIMULATED:
            raise BadInput(
                f"{run}: its scores are simulated, expected those of real models; there is nothing to export: "
                "choose another evaluation.engine, and another run name"
            )
        with atomic(models / choice["name"]) as folder:
            merge(recipe, folder, threads=threads)
            write_json(folder / "recipe.json", recipe)
        index.append({**choice, "path": str(models / choice["name"])})
    return index
