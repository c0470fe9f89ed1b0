"""The models that a recipe is made of, mapped into memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoint import Checkpoint, groups, map_tensors, members, open_checkpoint, sample
from ..compatibility import check_compatible
from ..errors import BadInput
from ..recipe import check_recipe
from .tensors import FLOATS, Adapted, Padded, Stored, Tensor


@dataclass(frozen=True)
class Sources:
    """The models of a recipe; all recipes of a run can be merged from them.

    template: the checkpoint of `files_from`, which gives the merged model its tensors' names, shapes and dtypes.
    tensors: per source, in the recipe's order, tensor -> elements, of the floating ones; base: likewise, of the
    recipe's base. copied: the bytes of the other tensors, which are the same in all models.
    """

    template: Checkpoint
    groups: dict[str, list[str]]  # tensor group -> tensors, those of a layer together
    tensors: list[dict[str, Tensor]]
    base: dict[str, Tensor] | None
    copied: dict[str, memoryview]


def open_sources(recipe: Mapping[str, Any]) -> Sources:
    """BadInput where the recipe does not fit its sources, they changed since it was made, or do not fit each other."""
    check_recipe(recipe, "recipe")
    records = {f"source {name}": record for name, record in recipe["sources"].items()}
    if "base" in recipe:
        records["base"] = recipe["base"]
    checkpoints = {
        name: open_checkpoint(record["path"], record.get("adapter")) for name, record in records.items()
    }
    sources = [checkpoint for name, checkpoint in checkpoints.items() if name != "base"]
    vocabulary = recipe.get("options", {}).get("vocabulary", "exact")
    check_compatible(sources, vocabulary, checkpoints.get("base"))
    template = checkpoints[f"source {recipe['files_from']}"]
    grouped = groups(template)
    expected = members(grouped, recipe["weights"])
    if differing := sorted(expected.keys() ^ recipe["weights"].keys()):
        raise BadInput(
            f"recipe: weights of {', '.join(differing)} are missing or of no tensor; expected {', '.join(expected)}"
        )
    for name, checkpoint in checkpoints.items():
        if sample(checkpoint) != records[name]["sample"]:
            raise BadInput(
                f"{name} ({checkpoint.path}): changed since the recipe was made; "
                "restore its files, or start a run with another name"
            )
    opened = dict(zip(checkpoints, open_tensors(list(checkpoints.values()), template), strict=True))
    views = map_tensors(template)
    return Sources(
        template=template,
        groups=grouped,
        tensors=[opened[f"source {name}"] for name in recipe["sources"]],
        base=opened.get("base"),
        copied={name: views[name] for name, info in template.tensors.items() if info.dtype not in FLOATS},
    )


def open_tensors(checkpoints: Sequence[Checkpoint], template: Checkpoint) -> list[dict[str, Tensor]]:
    """The floating tensors of compatible models, changed by their adapters, all of the template's shapes.

    Where vocabularies differ, a tensor is cut, or padded with the template's own rows.
    """
    own = _tensors(template)
    return [
        {
            name: _sized(tensor, checkpoint, template, name, own[name])
            for name, tensor in _tensors(checkpoint).items()
        }
        for checkpoint in checkpoints
    ]


def _sized(
    tensor: Tensor, checkpoint: Checkpoint, template: Checkpoint, name: str, padding: Tensor
) -> Tensor:
    size, wanted = (c.tensors[name].parameters for c in (checkpoint, template))
    if size < wanted:
        return Padded(tensor, size, padding)
    if size > wanted and tensor.stored is not None:
        return Stored(tensor.stored[: wanted * tensor.dtype.itemsize], tensor.dtype)
    return tensor


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    views = map_tensors(checkpoint)
    tensors: dict[str, Tensor] = {
        name: Stored(views[name], FLOATS[info.dtype])
        for name, info in checkpoint.tensors.items()
        if info.dtype in FLOATS
    }
    if checkpoint.adapter is not None:
        adapter, views = checkpoint.adapter, map_tensors(checkpoint.adapter)
        matrices = {
            name: Stored(views[name], FLOATS[info.dtype]).piece(0, info.parameters).view(info.shape)
            for name, info in adapter.tensors.items()
        }
        for name, replacement in adapter.replaced.items():
            tensors[name] = Stored(views[replacement], FLOATS[adapter.tensors[replacement].dtype])
        for name, change in adapter.low_rank.items():
            a, b = matrices[change.a], matrices[change.b]
            left, right = (a.T, b.T) if change.transposed else (b, a)
            tensors[name] = Adapted(tensors[name], left, right, change.scale)
    return tensors
