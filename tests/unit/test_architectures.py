"""Merges of every architecture that the docs name, as transformers makes, loads and runs it."""

import re

import pico
import pytest
import torch
from bambo.checkpoint import groups, open_checkpoint
from bambo.merging import merge
from bambo.recipe import make_recipe
from bambo.sources import describe
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

LAYERS = 2
CASES = [(name, tied) for name in pico.ARCHITECTURES for tied in (False, True)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{'tied' if case[1] else 'untied'}")
def pair(request, tmp_path_factory):
    architecture, tied = request.param
    folder = tmp_path_factory.mktemp(architecture)
    return pico.make_pair(
        folder, architecture, tied=tied, num_hidden_layers=LAYERS, dtype=torch.bfloat16, max_shard_size="20KB"
    )


def stored(path):
    return {key: tensor for file in path.glob("*.safetensors") for key, tensor in load_file(file).items()}


def merged(pair, weights, output):
    """Merge with one weight for all groups, or those of some of them: group -> weight of `thinking`, others 0."""
    records = {name: describe(str(path), None) for name, path in pair.items()}
    names = groups(open_checkpoint(pair["thinking"]))
    shares = {name: weights.get(name, 0) if isinstance(weights, dict) else weights for name in names}
    recipe = make_recipe({name: [w, 1 - w] for name, w in shares.items()}, records, "instruct", {})
    merge(recipe, output, threads=1)
    return load_file(output / "model.safetensors")


def test_each_group_changes_its_own_tensors_alone(pair, tmp_path):
    found = groups(open_checkpoint(pair["thinking"]))
    assert list(found) == ["embeddings", *(f"layers.{i}" for i in range(LAYERS)), "head"]
    source = stored(pair["instruct"])
    for group, members in found.items():
        result = merged(pair, {group: 0.5}, tmp_path / "out")
        assert {name for name in source if not torch.equal(source[name], result[name])} == set(members)
        if group.startswith("layers"):
            # An expert, which has a number of its own, is of its layer.
            assert {"layers." + re.search(r"\.(\d+)\.", name)[1] for name in members} == {group}


@pytest.mark.parametrize(("weight", "source"), [(1, "thinking"), (0, "instruct")])
def test_end_points_are_the_sources(pair, tmp_path, weight, source):
    result, expected = merged(pair, weight, tmp_path / "out"), stored(pair[source])
    assert result.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(result[name].view(torch.int16), tensor.view(torch.int16))


def test_merged_folder_is_a_model(pair, tmp_path):
    result = merged(pair, 0.4, tmp_path / "out")
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert model.dtype == torch.bfloat16
    # Its network is that of the sources with all parameters between theirs.
    sources = [AutoModelForCausalLM.from_pretrained(path) for path in pair.values()]
    for parameter, *others in zip(*(m.parameters() for m in (model, *sources)), strict=True):
        low, high = torch.minimum(*others), torch.maximum(*others)
        assert ((low <= parameter) & (parameter <= high)).all()
    prompt = torch.tensor([[3, 4, 5]])
    assert model.generate(prompt, max_new_tokens=4, do_sample=False).shape[1] > 3
    model.save_pretrained(tmp_path / "again")
    again = stored(tmp_path / "again")
    assert again.keys() == result.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in result.items())
