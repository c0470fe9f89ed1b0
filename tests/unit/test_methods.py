"""Every merging method beside a plain version on whole tensors, and what must hold for all of them."""

import json
import math
import tempfile
from pathlib import Path

import pico
import pytest
import torch
from bambo.errors import BadInput
from bambo.merging import draws, merge, merged_tensors, open_sources
from bambo.methods import METHODS
from fine_tunes import NAMES, recipe_for, record, tensors, write
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

DELTAS = [name for name, method in METHODS.items() if method.task_vectors]
PARENTS = {
    "ties": "consensus",
    "dare_linear": "task_arithmetic",
    "dare_ties": "consensus",
    "breadcrumbs": "task_arithmetic",
    "breadcrumbs_ties": "consensus",
    "della": "consensus",
    "della_linear": "task_arithmetic",
}


def merged(recipe, folder, **options):
    merge(recipe, folder / "out", **options)
    return load_file(folder / "out" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)) for name in a if a[name].dim()
    )


# ------------------------------------------------------------------------------------------------ plain version


def sparse(delta, method, parameters, options, fingerprint, name):
    """S(d) on a whole tensor."""
    kind, density = METHODS[method].sparsifier, parameters.get("density", 1)
    if kind == "none" or density == 1:
        return delta
    flat = delta.flatten()
    size = flat.abs()
    if kind in ("magnitude", "band"):
        order = size.sort(descending=True).values
        dropped = int(parameters.get("gamma", 0) * len(flat))
        last = min(dropped + max(1, int(density * len(flat))), len(flat))
        keep = size >= order[last - 1]
        if dropped:
            keep &= size <= order[dropped]
        return (flat * keep).view(delta.shape)
    numbers = torch.empty(len(flat))
    draws.uniform(draws.key_of(options["seed"], fingerprint, name), 0, numbers.numpy())
    probability = torch.full_like(flat, density)
    if kind == "rank":
        rows = size.view(-1, delta.shape[-1] if delta.dim() else 1)
        ranks = rows.sort(dim=1, stable=True).indices.argsort(dim=1)
        epsilon, row = parameters["epsilon"], rows.shape[1]
        if row > 1:
            probability = (density - epsilon + 2 * epsilon / (row - 1) * ranks.double()).float().flatten()
    keep = numbers < probability
    if options.get("rescale") == "l1":
        norm = (size * keep).sum()
        return (flat * keep * (size.sum() / norm if norm else 1)).view(delta.shape)
    return (flat * keep / probability).view(delta.shape)


def plain(recipe, paths):
    """The merged model by the formulas of `bambo.methods`, on whole tensors."""
    method = METHODS[recipe["method"]]
    weights = next(iter(recipe["weights"].values()))
    parameters = {name: next(iter(own.values())) for name, own in recipe.get("parameters", {}).items()}
    models = [load_file(paths[name] / "model.safetensors") for name in recipe["sources"]]
    prints = [each["fingerprint"] for each in recipe["sources"].values()]
    last = "base" not in recipe
    base = models[-1] if last else load_file(paths["base"] / "model.safetensors")
    result = {}
    for name, origin in base.items():
        start = origin.float()
        terms = []
        for model, weight, print_ in list(zip(models, weights, prints, strict=True))[: -1 if last else None]:
            delta = model[name].float() - start
            terms.append(
                (
                    weight,
                    weight
                    * sparse(delta, recipe["method"], parameters, recipe.get("options", {}), print_, name),
                )
            )
        total = sum(term for _, term in terms)
        if method.consensus:
            sign = torch.where(total >= 0, 1.0, -1.0)
            agreeing = [(weight, term, term * sign > 0) for weight, term in terms]
            total = sum(term * agrees for _, term, agrees in agreeing)
            if method.normalise:
                divisor = sum(weight * agrees for weight, _, agrees in agreeing)
                total = total / torch.where(divisor == 0, 1.0, divisor)
        result[name] = (start + parameters["lambda"] * total).to(origin.dtype)
    return result


SETTINGS = {
    "ties": [{}, {"density": 0.55, "lambda": 0.7}],
    "breadcrumbs": [{"gamma": 0.1, "density": 0.6}, {"gamma": 0, "density": 0.3}],
    "breadcrumbs_ties": [{"gamma": 0.1, "density": 0.6}],
    "della": [{}, {"density": 0.3, "epsilon": 0.2, "lambda": 1.5}],
}


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", DELTAS)
def test_methods_do_what_their_formula_says(tmp_path, method, count, base):
    paths = write(tmp_path, count)
    weights = [0.3, 0.7] if count == 2 else [0.2, 0.3, 0.5]
    for parameters in SETTINGS.get(method, [{}]):
        for options in [None, {"rescale": "l1"}] if METHODS[method].random else [None]:
            recipe = recipe_for(paths, method, weights, base, options, **parameters)
            found = merged(recipe, tmp_path)
            for name, expected in plain(recipe, paths).items():
                assert found[name].dtype == expected.dtype
                # Products in another order: a unit in the last place of bfloat16 at most, and rarely.
                difference = (found[name].float() - expected.float()).abs()
                assert (difference <= expected.float().abs() / 128).all()
                assert (difference > 0).float().mean() <= 0.05 or options


def test_slerp(tmp_path):
    paths = write(tmp_path)
    models = [load_file(paths[name] / "model.safetensors") for name in NAMES[:2]]
    # Two that are far from parallel.
    for seed, model in enumerate(models):
        model["model.layers.0.0"] = torch.randn(
            5, 12, generator=torch.Generator().manual_seed(seed)
        ).bfloat16()
        pico.write_checkpoint(paths[NAMES[seed]], model)
    found = merged(recipe_for({name: paths[name] for name in NAMES[:2]}, "slerp", [0.3, 0.7]), tmp_path)
    for name, tensor in found.items():
        a, b = (model[name].double().flatten() for model in models)
        cosine = float(torch.dot(a, b) / (a.norm() * b.norm()))
        if abs(cosine) > 0.9995:
            expected = 0.3 * a + 0.7 * b
        else:
            angle = math.acos(cosine)
            expected = (math.sin(0.3 * angle) * a + math.sin(0.7 * angle) * b) / math.sin(angle)
        assert torch.allclose(tensor.double().flatten(), expected, rtol=1 / 250, atol=1e-6)
    angle_between = torch.nn.functional.cosine_similarity(
        *(model["model.layers.0.0"].float().flatten() for model in models), dim=0
    )
    assert abs(angle_between) < 0.9995


def test_slerp_keeps_the_length_of_vectors_of_equal_length(tmp_path):
    paths = {}
    for seed, name in enumerate(NAMES[:2]):
        model = tensors(seed + 1, torch.float32)
        for key, value in model.items():
            model[key] = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
            model[key] /= model[key].norm()
        paths[name] = pico.write_checkpoint(tmp_path / name, model)
    for tensor in merged(recipe_for(paths, "slerp", [0.4, 0.6]), tmp_path).values():
        if tensor.numel() > 1:
            assert tensor.norm() == pytest.approx(1, abs=1e-5)


# --------------------------------------------------------------------------------------------------- properties


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(list(METHODS)),
    st.sampled_from([1 << 20, 16, 2]),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 3),
)
def test_pieces_threads_and_the_way_do_not_show(method, chunk_bytes, threads, base, seed):
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder))
        options = {"seed": seed, "rescale": "l1"} if METHODS[method].random and seed % 2 else None
        recipe = recipe_for(paths, method, [0.4, 0.6], base, options)
        expected = merged(recipe, Path(folder), threads=1)
        found = merged(recipe, Path(folder), threads=threads, chunk_bytes=chunk_bytes)
        straight = dict(merged_tensors(recipe, open_sources(recipe), threads, chunk_bytes))
        assert same(found, expected)
        assert same(straight, expected)


@pytest.mark.parametrize("method", METHODS)
def test_types_and_shards_of_the_sources_do_not_matter(tmp_path, method):
    paths = write(tmp_path)
    expected = merged(recipe_for(paths, method, [0.4, 0.6]), tmp_path)
    prints = {name: record(path)["fingerprint"] for name, path in paths.items()}
    # The same values in float32, in two shards; files_from, which gives the result its type, stays.
    for name in ("base", "thinking"):
        model = {key: value.float() for key, value in load_file(paths[name] / "model.safetensors").items()}
        (paths[name] / "model.safetensors").unlink()
        first, second = dict(list(model.items())[:2]), dict(list(model.items())[2:])
        index = {}
        for number, part in enumerate([first, second], start=1):
            file = f"model-0000{number}-of-00002.safetensors"
            pico.write_checkpoint(paths[name], part)
            (paths[name] / "model.safetensors").rename(paths[name] / file)
            index |= dict.fromkeys(part, file)
        (paths[name] / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    recipe = recipe_for(paths, method, [0.4, 0.6])
    for name, own in recipe["sources"].items():
        own["fingerprint"] = prints[name]  # masks are drawn by it, and it tells types apart
    assert same(merged(recipe, tmp_path), expected)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "slerp"])
def test_order_of_the_sources_does_not_matter(tmp_path, method):
    paths = write(tmp_path, 3)
    recipe = recipe_for(paths, method, [0.2, 0.3, 0.5])
    turned = {name: paths[name] for name in ["base", *NAMES[1:], NAMES[0]]}
    found = merged(recipe_for(turned, method, [0.3, 0.5, 0.2]), tmp_path)
    for name, tensor in merged(recipe, tmp_path).items():
        assert torch.allclose(found[name].float(), tensor.float(), rtol=1 / 128, atol=1e-7)


@pytest.mark.parametrize("method", DELTAS)
def test_scaled_weights(tmp_path, method):
    """Twice the weights are twice the lambda, unless the method divides by the weights."""
    paths = write(tmp_path, dtype=torch.float32)
    factor = 1.0 if METHODS[method].normalise else 2.0
    found = merged(recipe_for(paths, method, [0.5, 1.5]), tmp_path)
    expected = merged(recipe_for(paths, method, [0.25, 0.75], **{"lambda": factor}), tmp_path)
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "slerp"])
def test_weight_0_makes_a_source_irrelevant(tmp_path, method):
    paths = write(tmp_path, 3)
    results = []
    for seed in (3, 9):
        pico.write_checkpoint(paths["coder"], tensors(seed))
        order = {name: paths[name] for name in ["base", "coder", "thinking", "instruct"]}
        results.append(merged(recipe_for(order, method, [0, 0.3, 0.7]), tmp_path))
    assert same(*results)
    without = {name: paths[name] for name in ["base", "thinking", "instruct"]}
    assert same(merged(recipe_for(without, method, [0.3, 0.7]), tmp_path), results[0])


@pytest.mark.parametrize("method", PARENTS)
def test_density_1_is_the_parent(tmp_path, method):
    paths = write(tmp_path)
    own = {"density": 1.0, **{key: 0.0 for key in ("gamma", "epsilon") if key in METHODS[method].parameters}}
    recipe = recipe_for(paths, method, [0.3, 0.7], **own)
    found = merged(recipe, tmp_path)
    if PARENTS[method] == "task_arithmetic":
        assert same(found, merged(recipe_for(paths, "task_arithmetic", [0.3, 0.7]), tmp_path))
    else:
        other = "ties" if METHODS[method].normalise else "dare_ties"
        assert same(found, merged(recipe_for(paths, other, [0.3, 0.7], density=1.0), tmp_path))


def test_a_single_weight_cancels_where_methods_divide_by_it(tmp_path):
    """Why such searches are refused: without a base, there is one task vector."""
    paths = write(tmp_path)
    for method, cancels in [("ties", True), ("della", True), ("dare_ties", False), ("breadcrumbs", False)]:
        few, many = (merged(recipe_for(paths, method, [w, 1 - w], base=False), tmp_path) for w in (0.2, 0.8))
        close = all(torch.allclose(few[n].float(), many[n].float(), rtol=1 / 128) for n in few)
        assert close == cancels
        assert METHODS[method].weightless == cancels


def test_the_base_cancels_in_task_arithmetic(tmp_path):
    paths = write(tmp_path, dtype=torch.float32)
    found = merged(recipe_for(paths, "task_arithmetic", [0.3, 0.7]), tmp_path)
    expected = merged(recipe_for(paths, "linear", [0.3, 0.7]), tmp_path)
    assert all(torch.allclose(found[name], expected[name], rtol=1e-5, atol=1e-7) for name in found)


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("ties", {"density": 0}, "density: found 0, expected more than 0 and at most 1"),
        ("ties", {"density": 1.2}, "density: found 1.2, expected more than 0 and at most 1"),
        ("breadcrumbs", {"density": 0.95, "gamma": 0.1}, "gamma: found 0.1 with density 0.95"),
        ("breadcrumbs", {"gamma": -0.1}, "gamma: found -0.1"),
        ("della", {"density": 0.1}, "epsilon: found 0.15 with density 0.1, expected probabilities"),
        ("della", {"density": 0.9}, "epsilon: found 0.15 with density 0.9, expected probabilities"),
        ("task_arithmetic", {"lambda": 0}, "lambda: found 0, expected more than 0"),
        ("linear", {"density": 0.5}, "density: of no use with method: linear"),
    ],
)
def test_parameters_out_of_bounds(tmp_path, method, parameters, message):
    with pytest.raises(BadInput, match=message) as error:
        recipe_for(write(tmp_path), method, [0.5, 0.5], **parameters)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "weights", "message"),
    [
        ("linear", [0.5, 0.6], r"weights of embeddings are \[0.5, 0.6\], expected 2 numbers with sum 1"),
        ("slerp", [0.2, 0.2], "expected 2 numbers with sum 1"),
        ("ties", [-0.5, 1.5], "expected none below 0"),
        ("ties", [1.0], "expected 2 numbers"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, method, weights, message):
    with pytest.raises(BadInput, match=message):
        recipe_for(write(tmp_path), method, weights)


def test_slerp_is_of_two(tmp_path):
    with pytest.raises(BadInput, match="3 sources, expected 2 for method slerp"):
        recipe_for(write(tmp_path, 3), "slerp", [0.2, 0.3, 0.5])
