import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pico
import pytest
import torch
from bambo.checkpoint import fingerprint, groups, open_checkpoint
from bambo.cli import main
from bambo.errors import BadInput
from bambo.headers import TensorInfo, encode_header
from bambo.merging import engine, merge
from bambo.recipe import make_recipe, write_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def recipe_for(paths, weights, files_from=None):
    """Recipe of sources (name -> folder); weights per group, or one list for all groups."""
    checkpoints = {name: open_checkpoint(path) for name, path in paths.items()}
    records = {name: {"path": str(c.path), **fingerprint(c)} for name, c in checkpoints.items()}
    if isinstance(weights, list):
        weights = dict.fromkeys(groups(next(iter(checkpoints.values()))), weights)
    return make_recipe(weights, records, files_from or list(paths)[-1], {})


def merged(paths, weights, output, **options):
    merge(recipe_for(paths, weights), output, **options)
    return load_file(output / "model.safetensors")


def bits(tensor):
    return tensor.flatten().view(torch.uint8).tolist()


def naive(models, weights):
    """Whole tensors in float32, fused multiply-adds in the order of the sources, rounded once."""
    total = models[0].float() * weights[0]
    for model, weight in zip(models[1:], weights[1:], strict=True):
        total = torch.add(total, model.float(), alpha=weight)
    shares = torch.zeros(())
    for weight in weights:
        shares += torch.tensor(weight)
    return (total / shares).to(models[-1].dtype)


# ------------------------------------------------------------------------------------------------- arithmetic


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 999_999), min_size=1, max_size=2),
    st.lists(st.sampled_from([(), (0,), (1,), (3,), (5, 7), (40, 33)]), min_size=1, max_size=4),
    st.lists(st.sampled_from(DTYPES), min_size=4, max_size=4),
    st.sampled_from([4, 12, 64, 1 << 20]),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_bit_equal_to_whole_tensors(shares, shapes, dtypes, chunk_bytes, threads, seed):
    first = [share / 1e6 / len(shares) for share in shares]
    weights = [round(weight, 6) for weight in first]
    weights.append(round(1 - sum(weights), 6))
    generator = torch.Generator().manual_seed(seed)
    models = [
        {
            f"model.layers.0.{i}": torch.randn(shape, generator=generator).to(dtype)
            for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False))
        }
        for _ in weights
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            f"s{j}": pico.write_checkpoint(Path(folder) / f"s{j}", model) for j, model in enumerate(models)
        }
        result = merged(paths, weights, Path(folder) / "out", threads=threads, chunk_bytes=chunk_bytes)
    assert result.keys() == models[0].keys()
    for name, tensor in result.items():
        expected = naive([model[name] for model in models], weights)
        assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)
        assert bits(tensor) == bits(expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_end_points_are_the_sources_byte_for_byte(tmp_path, dtype):
    paths = {}
    for seed, name in enumerate(["thinking", "instruct"]):
        tensors = pico.tensors(seed=seed, dtype=dtype)
        # Bits that arithmetic would not keep: negative zero, the least subnormal number.
        tensors["model.norm.weight"] = torch.tensor([-0.0, 5e-324, 1, -1], dtype=torch.float64).to(dtype)
        tensors["model.norm.weight"].view(torch.int16 if dtype != torch.float32 else torch.int32)[1] = (
            1 + seed
        )
        paths[name] = pico.write_checkpoint(tmp_path / name, tensors)
    for name, weights in (("thinking", [1, 0]), ("instruct", [0, 1])):
        assert merged(paths, weights, tmp_path / "out").keys() == tensors.keys()
        # The sources are of safetensors' own making: same layout, so the files are equal behind the header.
        source, result = (file / "model.safetensors" for file in (paths[name], tmp_path / "out"))
        with safe_open(source, "pt") as a, safe_open(result, "pt") as b:
            assert all(bits(a.get_tensor(key)) == bits(b.get_tensor(key)) for key in a.keys())  # noqa: SIM118
            assert b.metadata() == {"format": "pt", "bambo": recipe_for(paths, weights)["id"]}


def test_other_dtypes_are_copied(tmp_path):
    extra = {"model.layers.0.mask": torch.tensor([True, False]), "model.layers.0.index": torch.arange(3)}
    paths = {n: pico.write_checkpoint(tmp_path / n, pico.tensors(seed=i) | extra) for i, n in enumerate("ab")}
    result = merged(paths, [0.5, 0.5], tmp_path / "out")
    assert all(torch.equal(result[name], tensor) for name, tensor in extra.items())


# ----------------------------------------------------------------------------------------------- whole models


def test_companions_come_verbatim_from_one_source(tmp_path):
    paths = pico.make_pair(tmp_path, max_shard_size="40KB")
    for name, path in paths.items():
        (path / "chat_template.jinja").write_text(name)
        (path / "tokenizer.json").write_text("{ }")
        (path / "README.md").write_text(name)
    (paths["thinking"] / "only_there.json").write_text("{}")
    merge(recipe_for(paths, [0.3, 0.7], "instruct"), tmp_path / "out")
    names = {"config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {*names, "model.safetensors"}
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (paths["instruct"] / name).read_bytes()


def test_threads_do_not_show(tmp_path):
    paths = pico.make_pair(tmp_path, dtype=torch.bfloat16)
    recipe = recipe_for(paths, [0.123456, 0.876544])
    threads_before = torch.get_num_threads()
    for threads in (1, 3):
        merge(recipe, tmp_path / str(threads), threads=threads)
    assert (tmp_path / "1/model.safetensors").read_bytes() == (tmp_path / "3/model.safetensors").read_bytes()
    assert torch.get_num_threads() == threads_before


# --------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def pair(tmp_path):
    return {
        n: pico.write_checkpoint(tmp_path / n, pico.tensors(seed=i)) for i, n in enumerate(["think", "chat"])
    }


def refuses(recipe, tmp_path, message):
    """Merging raises BadInput and leaves the older merge, and nothing beside it."""
    old = tmp_path / "outputs" / "model"
    old.mkdir(parents=True)
    (old / "model.safetensors").write_bytes(encode_header({}, recipe="older")[0])
    with pytest.raises(BadInput, match=message) as error:
        merge(recipe, old)
    assert "\n" not in str(error.value)
    assert [str(path.relative_to(tmp_path)) for path in (tmp_path / "outputs").rglob("*")] == [
        "outputs/model",
        "outputs/model/model.safetensors",
    ]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_source_that_changed(tmp_path, pair, file):
    recipe = recipe_for(pair, [0.5, 0.5])
    target = pair["think"] / file
    data = target.read_bytes()
    target.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if file == "model.safetensors" else data + b"\n")
    refuses(recipe, tmp_path, r"source think \(.*think\): changed since the recipe was made")


def test_source_that_is_gone_or_does_not_fit(tmp_path, pair):
    recipe = recipe_for(pair, [0.5, 0.5])
    pico.write_checkpoint(pair["think"], pico.tensors(width=5))
    refuses(recipe, tmp_path, r"chat: tensor .* has shape|vocabulary")
    (pair["think"] / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"think: no model\.safetensors"):
        merge(recipe, tmp_path / "out")


def test_place_of_something_else(tmp_path, pair):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("all of it")
    with pytest.raises(BadInput, match="out: there already and no merged model"):
        merge(recipe_for(pair, [0.5, 0.5]), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "all of it"


def test_weights_of_other_groups(tmp_path, pair):
    recipe = recipe_for(pair, {"embeddings": [0.5, 0.5], "layers.0": [0.5, 0.5], "layers.7": [0.5, 0.5]})
    refuses(recipe, tmp_path, r"weights of head, layers\.1, layers\.7 are missing or of no tensor")


def test_unknown_method(tmp_path, pair):
    refuses(
        {**recipe_for(pair, [0.5, 0.5]), "method": "magic"},
        tmp_path,
        "method is magic, expected one of linear, slerp",
    )


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_full_disk(tmp_path, pair, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(engine.os, "posix_fallocate", refuse)
    refuses(recipe_for(pair, [0.5, 0.5]), tmp_path, f"outputs/model: {os.strerror(code)}; free space")


def test_failure_in_a_thread_is_raised(tmp_path, pair, monkeypatch):
    def fail(*_):
        raise RuntimeError("in a thread")

    monkeypatch.setattr(engine.os, "pwrite", fail)
    with pytest.raises(RuntimeError, match="in a thread"):
        merge(recipe_for(pair, [0.5, 0.5]), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat", "think"]


# ---------------------------------------------------------------------------------------------------- command


def test_command(tmp_path, pair, monkeypatch, capsys):
    recipe = write_recipe(tmp_path, recipe_for(pair, [0.5, 0.5]))
    monkeypatch.setattr(sys, "argv", ["bambo", "merge", str(recipe), str(tmp_path / "out"), "--threads", "1"])
    main()
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: merged from {recipe}\n"
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_command_ends_on_bad_input_with_one_line(tmp_path, pair):
    recipe = write_recipe(tmp_path, recipe_for(pair, [0.5, 0.5]))
    (pair["think"] / "config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "bambo", "merge", recipe, tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


MEASURED = """
import sys, threading, time
from pathlib import Path
from bambo.merging import merge
from bambo.recipe import read_recipe

def anonymous():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) // 1024

peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
merge(read_recipe(sys.argv[1]), Path(sys.argv[2]))
print(peak)
"""


def test_memory_does_not_grow_with_the_model(tmp_path):
    size = 300 << 20  # each source; in float32 a single one would be 600 MB
    shapes = {"model.embed_tokens.weight": size // 4, "model.layers.0.mlp.weight": size // 4}
    paths = {}
    for name in ("thinking", "instruct"):
        paths[name] = tmp_path / name
        paths[name].mkdir()
        (paths[name] / "config.json").write_text(json.dumps({"model_type": "pico"}))
        tensors = {n: TensorInfo(tmp_path, "BF16", (count,), 0, 2 * count) for n, count in shapes.items()}
        header, _ = encode_header(tensors)
        with open(paths[name] / "model.safetensors", "wb") as file:
            file.write(header)
            file.truncate(len(header) + size)  # sparse: zeros that take no room on disk
    recipe = write_recipe(tmp_path, recipe_for(paths, [0.25, 0.75]))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, recipe, tmp_path / "out"], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > size
    assert 10 < int(done.stdout) <= 250
