"""Fine-tunes of one base in miniature, and recipes of them by every method."""

import pico
import torch
from bambo.checkpoint import fingerprint, groups, open_checkpoint
from bambo.methods import METHODS
from bambo.recipe import make_recipe

NAMES = ["thinking", "instruct", "coder"]


def tensors(seed, dtype=torch.bfloat16, shapes=((7, 12), (5, 12), (12,), (9,), ())):
    """A base for seed 0, else a fine-tune of it: the base, moved a little; few values, so that there are ties."""
    names = [
        "model.embed_tokens.weight",
        *(f"model.layers.0.{i}" for i in range(len(shapes) - 2)),
        "norm.weight",
    ]
    base = torch.Generator().manual_seed(0)
    own = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in zip(names, shapes, strict=True):
        value = torch.randn(shape, generator=base) * 0.1
        moved = value + torch.randn(shape, generator=own) * 0.01 if seed else value
        made[name] = moved.to(torch.bfloat16).to(dtype)
    return made


def write(folder, count=2, **options):
    """Fine-tunes and their base: name -> folder."""
    return {
        name: pico.write_checkpoint(folder / name, tensors(seed, **options))
        for seed, name in enumerate(["base", *NAMES[:count]])
    }


def record(path):
    checkpoint = open_checkpoint(path)
    return {"path": str(path), **fingerprint(checkpoint)}


def recipe_for(paths, method, weights, base=True, options=None, **parameters):
    """A recipe of the paths (with `base` among them); one value of weights and parameters for all groups."""
    records = {name: record(path) for name, path in paths.items()}
    origin = records.pop("base", None)
    members = list(groups(open_checkpoint(next(iter(paths.values())))))
    values = {**METHODS[method].parameters, **parameters}
    return make_recipe(
        dict.fromkeys(members, weights),
        records,
        list(records)[-1],
        {},
        method,
        base=origin if base and METHODS[method].task_vectors else None,
        parameters={name: dict.fromkeys(members, value) for name, value in values.items()},
        options={"seed": 0, **(options or {})} if METHODS[method].random else options,
    )
