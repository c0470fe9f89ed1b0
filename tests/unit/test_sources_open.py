"""Models that are not alike in type or vocabulary, and a base, as merges open them."""

import pico
import pytest
import torch
from bambo.checkpoint import groups, open_checkpoint
from bambo.compatibility import check_compatible
from bambo.errors import BadInput
from bambo.merging import merge, open_sources
from bambo.partition import layer_differences
from bambo.recipe import make_recipe
from bambo.sources import describe
from safetensors.torch import load_file

PARAMETERS = {
    "linear": {},
    "slerp": {},
    "task_arithmetic": {"lambda": 0.8},
    "ties": {"density": 0.4, "lambda": 1.0},
    "breadcrumbs_ties": {"density": 0.6, "gamma": 0.1, "lambda": 1.0},
}


def recipe_of(folders, weights, method="linear", files_from=None, base=None, **options):
    records = {name: describe(str(path), None) for name, path in folders.items()}
    names = groups(open_checkpoint(next(iter(folders.values()))))
    return make_recipe(
        dict.fromkeys(names, weights),
        records,
        files_from or list(folders)[-1],
        {},
        method,
        base=describe(str(base), None) if base else None,
        parameters={key: dict.fromkeys(names, value) for key, value in PARAMETERS[method].items()},
        options=options,
    )


def merged(recipe, output, **options):
    merge(recipe, output, **options)
    return load_file(output / "model.safetensors")


def bits(tensors):
    return {name: (tensor.dtype, tensor.view(torch.uint8).tolist()) for name, tensor in tensors.items()}


# ------------------------------------------------------------------------------------------------------ types


@pytest.mark.parametrize("method", PARAMETERS)
def test_how_a_source_is_stored_does_not_matter(tmp_path, method):
    names = ["a", "b", *(["base"] if "lambda" in PARAMETERS[method] else [])]
    models = {n: pico.tensors(width=20, seed=seed, dtype=torch.bfloat16) for seed, n in enumerate(names)}
    results = []
    for stored_wide in (None, *names):
        paths = {}
        for name, tensors in models.items():
            own = {key: t.float() for key, t in tensors.items()} if name == stored_wide else tensors
            paths[name] = pico.write_checkpoint(tmp_path / f"{stored_wide}" / name, own)
        base = paths.pop("base", None)
        recipe = recipe_of(paths, [0.3, 0.7], method, "b" if stored_wide == "a" else "a", base)
        results.append(bits(merged(recipe, tmp_path / f"{stored_wide}" / "out")))
    assert all(result == results[0] for result in results)
    assert {dtype for dtype, _ in results[0].values()} == {torch.bfloat16}


@pytest.mark.parametrize("weights", [[1, 0], [0.5, 0.5]])
def test_the_merged_model_has_the_types_of_its_files(tmp_path, weights):
    wide, narrow = pico.tensors(seed=0), pico.tensors(seed=1, dtype=torch.bfloat16)
    narrow["model.norm.weight"] = narrow["model.norm.weight"].half()
    folders = {n: pico.write_checkpoint(tmp_path / n, t) for n, t in (("wide", wide), ("narrow", narrow))}
    for name, like in (("wide", wide), ("narrow", narrow)):
        result = merged(recipe_of(folders, weights, files_from=name), tmp_path / "out")
        assert {key: tensor.dtype for key, tensor in result.items()} == {k: t.dtype for k, t in like.items()}
        if weights == [1, 0]:
            assert all(torch.equal(result[key], wide[key].to(like[key].dtype)) for key in result)


# ------------------------------------------------------------------------------------------------- vocabulary


def with_vocabulary(path, size, seed):
    tensors = pico.tensors(width=8, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = torch.randn(size, 8, generator=generator)
    tensors["lm_head.bias"] = torch.randn(size, generator=generator)
    pico.write_checkpoint(path, tensors, {"vocab_size": size})
    return tensors


def resized(tensors, like):
    """Cut, or padded with the other model's rows."""
    return {
        name: torch.cat([tensor, like[name][len(tensor) :]])[: len(like[name])]
        for name, tensor in tensors.items()
    }


@pytest.fixture
def three(tmp_path):
    """Models of 9, 7 and 12 tokens, and where they lie."""
    sizes = {"large": 9, "small": 7, "base": 12}
    folders = {name: tmp_path / name for name in sizes}
    models = {n: with_vocabulary(folders[n], size, seed) for seed, (n, size) in enumerate(sizes.items())}
    return models, folders


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "slerp"])
@pytest.mark.parametrize("files_from", ["large", "small"])
def test_vocabularies_are_cut_and_padded(tmp_path, three, method, files_from):
    models, folders = three
    base = folders["base"] if method == "task_arithmetic" else None
    pair = {name: folders[name] for name in ("large", "small")}
    recipe = recipe_of(pair, [0.3, 0.7], method, files_from, base, vocabulary="match")
    result = merged(recipe, tmp_path / "out")
    # The same merge of models that were resized beforehand.
    alike = {}
    for name, tensors in models.items():
        own = resized(tensors, models[files_from])
        size = len(models[files_from]["lm_head.bias"])
        alike[name] = pico.write_checkpoint(tmp_path / "alike" / name, own, {"vocab_size": size})
    base = alike.pop("base") if base else None
    alike.pop("base", None)
    assert bits(result) == bits(
        merged(recipe_of(alike, [0.3, 0.7], method, files_from, base), tmp_path / "expected")
    )
    pieces = merged(recipe, tmp_path / "pieces", chunk_bytes=12)
    assert bits(pieces) == bits(result)
    config = folders[files_from] / "config.json"
    assert (tmp_path / "out" / "config.json").read_bytes() == config.read_bytes()


@pytest.mark.parametrize("files_from", ["large", "small"])
@pytest.mark.parametrize("weights", [[1, 0], [0, 1]])
def test_end_points_of_other_vocabularies(tmp_path, three, files_from, weights):
    models, folders = three
    pair = {name: folders[name] for name in ("large", "small")}
    result = merged(recipe_of(pair, weights, files_from=files_from, vocabulary="match"), tmp_path / "out")
    assert bits(result) == bits(resized(models[list(pair)[weights.index(1)]], models[files_from]))


def test_differences_of_other_vocabularies(three):
    models, folders = three
    checkpoints = [open_checkpoint(path) for path in folders.values()]
    check_compatible(checkpoints, "match")
    for place, name in enumerate(folders):
        frame = layer_differences(checkpoints, place).set_index("tensor")
        for tensor in ("model.embed_tokens.weight", "lm_head.bias", "model.norm.weight"):
            values = torch.stack([resized(model, models[name])[tensor] for model in models.values()])
            norms = (values - values.mean(dim=0)).flatten(1).norm(dim=1)
            assert frame.loc[tensor, "l2"] == pytest.approx(float(norms.sum()), rel=1e-5)
            assert frame.loc[tensor, "parameters"] == models[name][tensor].numel()


def test_vocabularies_are_alike_unless_asked(three):
    _, folders = three
    pair = {name: folders[name] for name in ("large", "small")}
    for base in (None, folders["base"]):
        recipe = recipe_of(pair, [0.3, 0.7], "task_arithmetic", base=base)
        with pytest.raises(BadInput, match=r"vocabulary of \d+ in .* set merge\.vocabulary: match"):
            open_sources(recipe)


# ------------------------------------------------------------------------------------------------------- base


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": None}, r"base: no tensor model\.norm\.weight, .*/a has it"),
        ({"model.norm.bias": torch.ones(4)}, r"/a: no tensor model\.norm\.bias, .*/base has it"),
        ({"model.norm.weight": torch.ones(5)}, r"base: tensor model\.norm\.weight has shape \[5\], \[4\]"),
        ({"model.norm.weight": torch.ones(4).char()}, r"base: tensor model\.norm\.weight is I8, F32 in"),
    ],
)
def test_base_that_does_not_fit(tmp_path, change, message):
    tensors = {name: t for name, t in (pico.tensors(seed=2) | change).items() if t is not None}
    base = pico.write_checkpoint(tmp_path / "base", tensors)
    pair = {name: pico.write_checkpoint(tmp_path / name, pico.tensors(seed=i)) for i, name in enumerate("ab")}
    with pytest.raises(BadInput, match=message):
        open_sources(recipe_of(pair, [0.5, 0.5], "task_arithmetic", base=base))


def test_base_of_a_shorter_context(tmp_path):
    """Qwen3-4B-Base has another rope_theta than Qwen3-4B-Thinking-2507; it is never run."""
    folders = {
        name: pico.write_checkpoint(tmp_path / name, pico.tensors(seed=i), {"rope_theta": theta})
        for i, (name, theta) in enumerate({"a": 5e6, "b": 5e6, "base": 1e6}.items())
    }
    base = folders.pop("base")
    assert open_sources(recipe_of(folders, [0.5, 0.5], "task_arithmetic", base=base)).base
    with pytest.raises(
        BadInput, match=r"base/config\.json: rope\.rope_theta is 1000000\.0, 5000000\.0 in .*a"
    ):
        open_sources(recipe_of({"a": folders["a"], "base": base}, [0.5, 0.5]))


def test_base_that_changed_or_is_truncated(tmp_path):
    folders = {n: pico.write_checkpoint(tmp_path / n, pico.tensors(seed=i)) for i, n in enumerate("abc")}
    base = folders.pop("c")
    recipe = recipe_of(folders, [0.5, 0.5], "task_arithmetic", base=base)
    file = base / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadInput, match=r"base \(.*c\): changed since the recipe was made"):
        open_sources(recipe)
    file.write_bytes(data[:-1])
    with pytest.raises(BadInput, match=r"c/model\.safetensors: header says .* truncated"):
        open_sources(recipe)
