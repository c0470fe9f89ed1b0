"""Attention and MLP of each layer apart: which tensors are whose, and one name for one model."""

import re

import numpy as np
import pico
import pytest
import torch
from bambo.checkpoint import layer_of, members, modules, open_checkpoint
from bambo.errors import BadInput
from bambo.evaluation.simulated import _share
from bambo.merging import merge, merged_tensors, open_sources
from bambo.partition import layer_differences
from bambo.recipe import make_recipe
from bambo.run import Merge, joined
from bambo.sources import describe
from bambo.space import expand, parts, variables
from safetensors.torch import load_file

LAYERS = 12  # two digits: layers.1 is not layers.10
LINEAR = {"method": "linear"}


def apart(*names):
    """Modules of the tensors of layer 1, by the first name behind its number."""
    return modules("layers.1", [f"model.layers.1.{name}.weight" for name in names])


@pytest.mark.parametrize(
    ("attention", "mlp"),
    [
        (
            "input_layernorm self_attn.q_proj self_attn.q_norm",
            "post_attention_layernorm mlp.up_proj",
        ),  # Qwen3
        ("self_attn.o_proj", "mlp.gate mlp.experts.0.up_proj mlp.shared_expert.up_proj"),  # Qwen3-MoE
        ("self_attn.q_proj", "block_sparse_moe.gate block_sparse_moe.experts.3.w1"),  # Mixtral
        (  # Gemma 3
            "input_layernorm self_attn.q_proj post_attention_layernorm",
            "pre_feedforward_layernorm mlp.up_proj post_feedforward_layernorm",
        ),
        ("self_attn.q_proj post_attention_layernorm", "mlp.up_proj post_feedforward_layernorm"),  # OLMo 2
        (  # GLM 4
            "input_layernorm self_attn.q_proj post_self_attn_layernorm",
            "post_attention_layernorm mlp.up_proj post_mlp_layernorm",
        ),
        ("ln_1 attn.c_attn", "ln_2 mlp.c_fc"),  # GPT-2
        (
            "attention.query_key_value input_layernorm",
            "post_attention_layernorm mlp.dense_h_to_4h",
        ),  # GPT-NeoX
        ("input_layernorm self_attn.dense", "mlp.fc1"),  # Phi, both fed by one norm
        ("self_attn_layer_norm self_attn.q_proj", "fc1 fc2 final_layer_norm"),  # OPT
        ("norm_1 attn.Wqkv", "norm_2 ffn.up_proj"),  # MPT
        ("operator_norm conv.in_proj", "ffn_norm feed_forward.w1"),  # LFM2
        ("input_layernorm mamba.in_proj", "pre_ff_layernorm feed_forward.experts.0.up_proj"),  # Jamba
        ("ln1 attention.key", "ln2 feed_forward.key"),  # RWKV
    ],
)
def test_what_is_attention_and_what_is_mlp(attention, mlp):
    found = apart(*attention.split(), *mlp.split())
    assert {
        name: {n.split(".", 3)[3].removesuffix(".weight") for n in own} for name, own in found.items()
    } == {
        "layers.1.attention": set(attention.split()),
        "layers.1.mlp": set(mlp.split()),
    }


@pytest.mark.parametrize("names", ["norm mixer.in_proj", "mlp.up_proj"])
def test_layers_without_both_stay_whole(names):
    assert list(apart(*names.split())) == ["layers.1"]


def test_embeddings_and_head_stay_whole():
    assert modules("head", ["model.norm.weight", "mlp.weight"]) == {
        "head": ["model.norm.weight", "mlp.weight"]
    }


def test_members_are_as_fine_as_the_names():
    coarse = {
        "embeddings": ["e"],
        "layers.0": ["h.0.mlp.a", "h.0.attn.a"],
        "layers.1": ["h.1.mlp.a", "h.1.attn.a"],
    }
    assert members(coarse, coarse) == coarse
    found = members(coarse, ["embeddings", "layers.0", "layers.1.mlp", "layers.1.attention"])
    assert list(found) == ["embeddings", "layers.0", "layers.1.attention", "layers.1.mlp"]
    assert found["layers.1.mlp"] == ["h.1.mlp.a"]


# Merges of every architecture, by the variables of a search


@pytest.fixture(scope="module", params=pico.ARCHITECTURES)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return pico.make_pair(folder, request.param, num_hidden_layers=LAYERS, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def run(pair):
    return pico.run_of(pair)


@pytest.fixture(scope="module")
def found(pair):
    differences = layer_differences([open_checkpoint(path) for path in pair.values()])
    return variables(parts(differences, 1, "module", fold=False), list(pair), LINEAR)


def made(run, point, found):
    recipe = run.recipe(expand(point, found, LINEAR))
    return recipe, dict(merged_tensors(recipe, open_sources(recipe), threads=1))


def test_each_variable_changes_its_own_tensors_and_every_tensor_has_one(pair, run, found):
    names = [variable["name"] for variable in found]
    assert len(found) == 2 * LAYERS + 2
    assert names[:3] == ["embeddings", "layer 0 attention", "layer 0 mlp"]
    source = load_file(pair["instruct"] / "model.safetensors")
    seen = set()
    for place, variable in enumerate(found):
        point = np.zeros(len(found))
        point[place] = 0.5
        recipe, result = made(run, point, found)
        changed = {name for name, tensor in source.items() if not torch.equal(tensor, result[name])}
        assert changed
        assert not changed & seen
        seen |= changed
        assert sum(source[name].numel() for name in changed) == variable["parameters"]
        if len(words := variable["name"].split()) == 3:
            assert {re.search(r"\.(\d+)\.", name)[1] for name in changed} == {words[1]}
            assert f"layers.{words[1]}.attention" in recipe["weights"]
    assert seen == set(source)


@pytest.mark.parametrize(("x", "name"), [(0, "instruct"), (1, "thinking")])
def test_ends_are_the_sources_byte_for_byte(pair, run, found, tmp_path, x, name):
    recipe = run.recipe(expand([x] * len(found), found, LINEAR))
    assert recipe == run.source_recipe(name)
    merge(recipe, tmp_path / "out", threads=1)
    result, source = (load_file(path / "model.safetensors") for path in (tmp_path / "out", pair[name]))
    assert result.keys() == source.keys()
    assert all(torch.equal(result[key].view(torch.int16), source[key].view(torch.int16)) for key in source)


def test_a_point_of_layers_is_the_same_candidate(pair, run, found):
    differences = layer_differences([open_checkpoint(path) for path in pair.values()])
    layers = variables(parts(differences, 1, "layer", fold=False), list(pair), LINEAR)
    x = np.linspace(0.1, 0.9, len(layers)).round(6)
    fine = np.concatenate([x[:1], np.repeat(x[1:-1], 2), x[-1:]])
    assert run.recipe(expand(fine, found, LINEAR)) == run.recipe(expand(x, layers, LINEAR))
    fine[3] += 1e-6
    assert run.recipe(expand(fine, found, LINEAR))["id"] != run.recipe(expand(x, layers, LINEAR))["id"]


# One name for one model

GROUPS = ["embeddings", "layers.0", "layers.1", "head"]


def halves(first, second, density=(0.2, 0.2)):
    modules_of_1 = {"layers.1.attention": first, "layers.1.mlp": second}
    weights = {"head": [1.0, 0.0], "embeddings": [0.0, 1.0], "layers.0": [0.5, 0.5], **modules_of_1}
    own = dict.fromkeys(weights, 0.2) | dict(zip(modules_of_1, density, strict=True))
    return Merge(weights, "ties", {"density": own})


def test_equal_halves_are_the_layer():
    merged = joined(halves([0.3, 0.7], [0.3000001, 0.6999999]), GROUPS)
    assert list(merged.weights) == GROUPS
    assert merged.weights["layers.1"] == [0.3, 0.7]
    assert merged.parameters["density"] == dict.fromkeys(GROUPS, 0.2)
    assert joined(merged, GROUPS) == merged


@pytest.mark.parametrize(
    "other", [halves([0.3, 0.7], [0.300001, 0.699999]), halves([0.3, 0.7], [0.3, 0.7], (0.2, 0.3))]
)
def test_other_weights_or_parameters_keep_them_apart(other):
    merged = joined(other, GROUPS)
    assert list(merged.weights) == [*GROUPS[:2], "layers.1.attention", "layers.1.mlp", "head"]
    assert merged.parameters["density"] == {
        name: other.parameters["density"][name] for name in merged.weights
    }


def test_a_recipe_names_both_modules_or_the_layer(tmp_path):
    records = {
        name: describe(str(path), None)
        for name, path in pico.make_pair(tmp_path, num_hidden_layers=1).items()
    }
    half = {name: [0.5, 0.5] for name in ("embeddings", "layers.0.mlp", "head")}
    with pytest.raises(BadInput, match=r"weights of layers\.0\.attention are missing"):
        open_sources(make_recipe(half, records, "instruct", {}))
    both = half | {name: [0.5, 0.5] for name in ("layers.0", "layers.0.attention")}
    with pytest.raises(BadInput, match=r"weights of layers\.0 are missing or of no tensor"):
        open_sources(make_recipe(both, records, "instruct", {}))


def test_adapters_and_masks_follow_modules(tmp_path):
    paths = pico.make_pair(tmp_path, num_hidden_layers=1)
    pico.make_model(tmp_path / "base", seed=2, num_hidden_layers=1)
    adapter = pico.make_adapter(
        paths["thinking"], tmp_path / "lora", target_modules=["q_proj", "up_proj"], r=2
    )
    records = {
        "thinking": describe(str(paths["thinking"]), None, str(adapter)),
        "instruct": describe(str(paths["instruct"]), None),
    }
    names = ["embeddings", "layers.0.attention", "layers.0.mlp", "head"]

    def tensors(weights, densities):
        parameters = {
            "density": dict(zip(names, densities, strict=True)),
            "lambda": dict.fromkeys(names, 1.0),
        }
        own = {name: [weight, 0.5 - weight] for name, weight in zip(names, weights, strict=True)}
        base = describe(str(tmp_path / "base"), None)
        recipe = make_recipe(own, records, "instruct", {}, "ties", base=base, parameters=parameters)
        return dict(merged_tensors(recipe, open_sources(recipe), threads=1))

    plain = tensors([0.2] * 4, [0.4] * 4)
    moved = tensors([0.2, 0.2, 0.4, 0.2], [0.4, 0.9, 0.4, 0.4])
    changed = {name for name in plain if not torch.equal(plain[name], moved[name])}
    of_layer = {name for name in plain if layer_of(name) == "layers.0"}
    assert changed <= of_layer
    assert {name for name in of_layer if "self_attn" in name and "proj" in name} <= changed  # their density
    assert {name for name in of_layer if "mlp" in name} <= changed  # their weight


def test_the_simulated_landscape_is_one_at_any_granularity():
    layers = {"layers.0": [0.3, 0.7], "layers.1": [0.9, 0.1]}
    fine = {f"{name}.{module}": own for name, own in layers.items() for module in ("attention", "mlp")}
    for metric in ("accuracy", "tokens"):
        assert _share(fine, metric) == pytest.approx(_share(layers, metric))
        moved = _share(fine | {"layers.0.mlp": [1.0, 0.0]}, metric)
        assert _share(layers, metric) < moved < _share(layers | {"layers.0": [1.0, 0.0]}, metric)
