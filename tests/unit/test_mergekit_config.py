"""Recipes as configurations of mergekit; that mergekit makes the same models of them is tested in tests/peers."""

from pathlib import Path
from typing import Any

import pico
import pytest
import torch
import yaml
from bambo.checkpoint import Checkpoint, fingerprint, groups, members, open_checkpoint
from bambo.mergekit_config import EXACTNESS, configuration, obstacle, text
from bambo.methods import METHODS
from bambo.recipe import make_recipe
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module", params=["qwen3", "gpt2", "gemma3_text"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("models") / request.param
    pico.make_model(path, request.param, tied=request.param != "qwen3", dtype=torch.bfloat16)
    return open_checkpoint(path)


def recipe(
    template: Checkpoint, weights: dict[str, list[float]], method: str = "linear", **others: Any
) -> Any:
    record = {"path": str(template.path), **fingerprint(template)}
    parameters = {name: dict.fromkeys(weights, value) for name, value in METHODS[method].parameters.items()}
    sources = {"a": record, "b": {**record, **others.pop("second", {})}}
    return make_recipe(weights, sources, "a", {}, method=method, parameters=parameters, **others)


def told(setting: Any, name: str) -> float:
    """What mergekit reads of a setting for a tensor: the first filter that is in its name."""
    if not isinstance(setting, list):
        return setting
    return next(each["value"] for each in setting if each["filter"] in name)


@given(st.integers(0, 10**6), st.booleans())
def test_every_tensor_has_the_weight_of_its_group(template: Checkpoint, seed: int, apart: bool) -> None:
    named = list(groups(template))
    if apart:  # the modules of one layer
        named[3:4] = [f"{named[3]}.attention", f"{named[3]}.mlp"]
    random = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 5, (len(named),), generator=random).tolist()
    weights = {group: [value / 4, 1 - value / 4] for group, value in zip(named, values, strict=True)}
    models = configuration(recipe(template, weights), template)["models"]
    for group, names in members(groups(template), weights).items():
        for name in names:
            assert [told(each["parameters"]["weight"], name) for each in models] == weights[group]


def test_equal_numbers_need_no_filter_and_a_layer_needs_one(template: Checkpoint) -> None:
    weights = {group: [0.5, 0.5] for group in groups(template)}
    assert configuration(recipe(template, weights), template)["models"][0]["parameters"] == {"weight": 0.5}
    weights["layers.1"] = [0.25, 0.75]  # not that of layers.10
    setting = configuration(recipe(template, weights), template)["models"][0]["parameters"]["weight"]
    assert sum(each["value"] == 0.25 for each in setting) == 1
    assert next(each["filter"] for each in setting if each["value"] == 0.25).endswith(".1.")


def test_the_last_source_serves_as_a_base_unless_there_is_one(template: Checkpoint) -> None:
    weights = {group: [0.5, 0.5] for group in groups(template)}
    record = {"path": "elsewhere", **fingerprint(template), "fingerprint": "f"}
    names = {"f": "org/base@v2"}
    alone = configuration(recipe(template, weights, "task_arithmetic"), template)
    beside = configuration(recipe(template, weights, "task_arithmetic", base=record), template, names)
    assert (alone["base_model"], beside["base_model"]) == (str(template.path), "org/base@v2")
    assert alone["parameters"] == {"lambda": 1.0}
    assert "base_model" not in configuration(recipe(template, weights), template)
    spherical = configuration(recipe(template, {group: [0.75, 0.25] for group in weights}, "slerp"), template)
    assert (spherical["base_model"], spherical["parameters"]) == (str(template.path), {"t": 0.25})


def test_what_mergekit_cannot_do_is_named(template: Checkpoint) -> None:
    weights = {group: [0.5, 0.5] for group in groups(template)}
    for method in METHODS:
        found = text(recipe(template, weights, method), template)
        assert (found is not None) == (method in EXACTNESS)
        if found:
            assert EXACTNESS[method] in found
            assert yaml.safe_load(found)["merge_method"] == method
    adapted = recipe(template, weights, second={"adapter": "folder", "fingerprint": "g"})
    assert "b: a model with a LoRA adapter" in str(obstacle(adapted, template))
    cut = recipe(template, weights, options={"vocabulary": "match"})
    assert "vocabularies" in str(obstacle(cut, template))


def test_tensors_of_two_types(tmp_path: Path) -> None:
    model = pico.make_model(tmp_path, "qwen3", dtype=torch.bfloat16)
    model.model.norm.float()
    model.save_pretrained(tmp_path)
    mixed = open_checkpoint(tmp_path)
    weights = {group: [0.5, 0.5] for group in groups(mixed)}
    assert "BF16, F32" in str(obstacle(recipe(mixed, weights), mixed))
