"""The models that a recipe is made of, mapped into memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checkpoint import Checkpoint, check_compatible, groups, map_tensors, open_checkpoint, sample
from ..errors import BadInput
from ..recipe import check_recipe
from .tensors import FLOATS, Stored, Tensor


@dataclass(frozen=True)
class Sources:
    """The models of a recipe; all recipes of a run can be merged from them.

    template: the checkpoint of `files_from`, which gives the merged model its tensors' names, shapes and dtypes.
    tensors: per source, in the recipe's order, tensor -> elements, of the floating ones; base: likewise, of the
    recipe's base. copied: the bytes of the other tensors, which are the same in all models.
    """

    template: Checkpoint
    groups: dict[str, list[str]]  # tensor group -> tensors
    tensors: list[dict[str, Tensor]]
    base: dict[str, Tensor] | None
    copied: dict[str, memoryview]


def open_sources(recipe: Mapping[str, Any]) -> Sources:
    """BadInput where the recipe does not fit its sources, they changed since it was made, or do not fit each other."""
    check_recipe(recipe, "recipe")
    records = {f"source {name}": record for name, record in recipe["sources"].items()}
    if "base" in recipe:
        records["base"] = recipe["base"]
    checkpoints = {name: open_checkpoint(record["path"]) for name, record in records.items()}
    check_compatible(list(checkpoints.values()))
    template = checkpoints[f"source {recipe['files_from']}"]
    members = groups(template)
    if differing := sorted(members.keys() ^ recipe["weights"].keys()):
        raise BadInput(
            f"recipe: weights of {', '.join(differing)} are missing or of no tensor; expected {', '.join(members)}"
        )
    for name, checkpoint in checkpoints.items():
        if sample(checkpoint) != records[name]["sample"]:
            raise BadInput(
                f"{name} ({checkpoint.path}): changed since the recipe was made; "
                "restore its files, or start a run with another name"
            )
    opened = {name: _tensors(checkpoint) for name, checkpoint in checkpoints.items()}
    views = map_tensors(template)
    return Sources(
        template=template,
        groups=members,
        tensors=[opened[f"source {name}"] for name in recipe["sources"]],
        base=opened.get("base"),
        copied={name: views[name] for name, info in template.tensors.items() if info.dtype not in FLOATS},
    )


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    views = map_tensors(checkpoint)
    return {
        name: Stored(views[name], FLOATS[info.dtype])
        for name, info in checkpoint.tensors.items()
        if info.dtype in FLOATS
    }
