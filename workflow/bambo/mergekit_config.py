"""A recipe as a configuration of mergekit, where mergekit makes the same model of it.

github.com/arcee-ai/mergekit, version 0.1; what is said of it here is tested beside it (tests/peers).
"""

from collections.abc import Iterable, Mapping, Sequence
from os.path import commonprefix
from typing import Any

import yaml

from .checkpoint import Checkpoint, groups, members
from .methods import METHODS

# How near mergekit comes, by method; masks that are drawn are others there.
EXACTNESS = {
    "linear": "every bit",
    "task_arithmetic": "every bit",
    "slerp": "all but the last bit of a few elements, since sums are rounded otherwise",
    "ties": "all but elements of exactly a threshold's magnitude, of which mergekit keeps some and BAMBO all",
}
EXACTNESS |= dict.fromkeys(("breadcrumbs", "breadcrumbs_ties"), EXACTNESS["ties"])
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def obstacle(recipe: Mapping[str, Any], template: Checkpoint) -> str | None:
    """Why mergekit makes no such model; None where it does. template: the checkpoint of `files_from`."""
    if recipe["method"] not in EXACTNESS:
        return f"{recipe['method']} draws its masks at random, and mergekit draws others"
    adapters = [name for name, source in recipe["sources"].items() if "adapter" in source]
    if adapters:
        return f"{', '.join(adapters)}: a model with a LoRA adapter, which mergekit rounds to the model's type first"
    if recipe.get("options", {}).get("vocabulary", "exact") != "exact":
        return "the sources' vocabularies differ in size, and mergekit fits them by tokens"
    types = {info.dtype for info in template.tensors.values()}
    if len(types) > 1 or not types <= DTYPES.keys():
        return f"tensors are of the types {', '.join(sorted(types))}, and mergekit writes one"
    return None


def configuration(
    recipe: Mapping[str, Any], template: Checkpoint, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """mergekit's configuration: JSON-able, with a filter for each group of tensors whose numbers differ.

    names: fingerprint of a model -> how it is to be called; its folder unless given.
    """
    models = list(recipe["sources"].values())
    paths = [(names or {}).get(model["fingerprint"], model["path"]) for model in models]
    tensors = members(groups(template), recipe["weights"])

    def filtered(values: Mapping[str, float]) -> Any:
        if len(set(values.values())) == 1:
            return next(iter(values.values()))
        return [
            {"filter": text, "value": values[group]}
            for group, own in tensors.items()
            for text in _filters(own, template.tensors)
        ]

    dtype = DTYPES[next(iter(template.tensors.values())).dtype]
    # Arithmetic in float32, rounded once, as ours.
    config: dict[str, Any] = {"merge_method": recipe["method"], "dtype": "float32", "out_dtype": dtype}
    weights = [
        {group: own[place] for group, own in recipe["weights"].items()} for place in range(len(models))
    ]
    parameters = {name: filtered(values) for name, values in recipe.get("parameters", {}).items()}
    if recipe["method"] == "slerp":  # from the base model at t = 0
        config |= {"base_model": paths[0], "models": [{"model": path} for path in paths]}
        return config | {"parameters": {**parameters, "t": filtered(weights[1])}}
    config["models"] = [
        {"model": path, "parameters": {"weight": filtered(own)}}
        for path, own in zip(paths, weights, strict=True)
    ]
    if "base" in recipe:
        base = recipe["base"]
        config["base_model"] = (names or {}).get(base["fingerprint"], base["path"])
    elif METHODS[recipe["method"]].task_vectors:  # the last source serves as one
        config["base_model"] = paths[-1]
    if parameters:
        config["parameters"] = parameters
    return config


def text(
    recipe: Mapping[str, Any], template: Checkpoint, names: Mapping[str, str] | None = None
) -> str | None:
    """mergekit_config.yml; None where there is an `obstacle`."""
    if obstacle(recipe, template):
        return None
    head = (
        f"# mergekit-yaml mergekit_config.yml OUTPUT: {EXACTNESS[recipe['method']]} of the weights beside it.\n"
        f"# Config, tokenizer and chat template are those of {recipe['files_from']}: copy them from there.\n"
    )
    return head + yaml.safe_dump(configuration(recipe, template, names), sort_keys=False, width=100)


def _filters(own: Sequence[str], every: Iterable[str]) -> list[str]:
    """Texts that stand in the names of just these tensors: one, if their common beginning will do.

    mergekit takes the first filter that is anywhere in a tensor's name.
    """
    start = commonprefix(list(own)).rpartition(".")[0] + "."  # noqa: RUF071 - no paths
    found = [name for name in every if start in name]
    return [start] if len(own) > 1 and sorted(found) == sorted(own) else list(own)
