"""LoRA adapters as sources, beside peft's own merge of them."""

import json
from pathlib import Path

import pico
import pytest
import torch
from bambo.adapter import open_adapter
from bambo.checkpoint import check_finite, fingerprint, groups, open_checkpoint, sample
from bambo.errors import BadInput
from bambo.merging import merge
from bambo.merging.sources import open_tensors
from bambo.merging.tensors import PRODUCT, Adapted, Stored
from bambo.partition import layer_differences
from bambo.recipe import make_recipe
from bambo.sources import describe
from safetensors.torch import load_file, save_file

PLAIN = {"r": 4, "target_modules": ["q_proj", "down_proj"]}


def adapted(checkpoint):
    """All tensors of a model as merges see them."""
    return {
        name: tensor.piece(0, info.parameters).view(info.shape)
        for name, tensor in open_tensors([checkpoint], checkpoint)[0].items()
        for info in [checkpoint.tensors[name]]
    }


# ------------------------------------------------------------------------------------------------- arithmetic


def merged_by_peft(folder):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload().save_pretrained(folder / "peft")
    return load_file(folder / "peft" / "model.safetensors")


def write_adapter(path, tensors, **config):
    path.mkdir(exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 2, **config}))
    save_file(tensors, path / "adapter_model.safetensors")
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", PLAIN),
        ("qwen3", {"r": 8, "lora_alpha": 3, "use_rslora": True, "target_modules": "all-linear"}),
        (
            "qwen3",
            {
                **PLAIN,
                "rank_pattern": {"down_proj": 2},
                "alpha_pattern": {r"^model\.layers\.1\.self_attn\.q_proj": 5, "q_proj": 1},
            },
        ),
        ("qwen3", {**PLAIN, "layers_to_transform": [1]}),
        ("llama", {**PLAIN, "modules_to_save": ["lm_head", "embed_tokens", "input_layernorm"]}),
        ("llama", {"r": 2, "target_modules": ["lm_head"]}),
        ("qwen3_moe", {"r": 2, "target_modules": ["o_proj"]}),
        ("phi3", {"r": 2, "target_modules": ["qkv_proj"]}),
        ("gpt2", {"r": 2, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
        ("gpt_neox", {"r": 2, "target_modules": ["query_key_value"]}),
    ],
)
def test_as_peft_merges_it(tmp_path, architecture, options, dtype):
    pico.make_model(tmp_path / "model", architecture, num_hidden_layers=2, dtype=dtype)
    pico.make_adapter(tmp_path / "model", tmp_path / "adapter", **options)
    checkpoint = open_checkpoint(tmp_path / "model", tmp_path / "adapter")
    ours, theirs = adapted(checkpoint), merged_by_peft(tmp_path)
    source = load_file(tmp_path / "model" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    changed = {name for name, tensor in ours.items() if not torch.equal(tensor, source[name])}
    assert changed == {*checkpoint.adapter.low_rank, *checkpoint.adapter.replaced}
    for name, tensor in ours.items():
        if name in checkpoint.adapter.low_rank:
            # Up to the order in which a product is added up, and where that decides: a step of bfloat16.
            rtol = 2e-6 if dtype == torch.float32 else 2**-7
            torch.testing.assert_close(tensor.to(dtype), theirs[name], rtol=rtol, atol=2e-6)
        else:
            assert torch.equal(tensor.to(dtype), theirs[name])


def test_experts_one_by_one(tmp_path):
    """As peft saved them while transformers held each expert for itself."""
    pico.make_model(tmp_path / "model", "qwen3_moe", num_hidden_layers=2)
    experts = {n: t for n, t in open_checkpoint(tmp_path / "model").tensors.items() if ".experts." in n}
    matrices = {}
    for name, info in experts.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        matrices[f"{module}.lora_A.weight"] = torch.randn(2, info.shape[1])
        matrices[f"{module}.lora_B.weight"] = torch.randn(info.shape[0], 2)
    targets = ["gate_proj", "up_proj", "down_proj"]
    write_adapter(tmp_path / "adapter", matrices, r=2, target_modules=targets, task_type="CAUSAL_LM")
    ours = adapted(open_checkpoint(tmp_path / "model", tmp_path / "adapter"))
    theirs = merged_by_peft(tmp_path)
    source = load_file(tmp_path / "model" / "model.safetensors")
    assert {name for name in ours if not torch.equal(ours[name], source[name])} == experts.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("transposed", [False, True])
def test_pieces_do_not_show(dtype, transposed):
    generator = torch.Generator().manual_seed(0)
    rows, width, rank = 300, 700, 6
    assert rows * width > 3 * PRODUCT
    weight, left, right = (
        torch.randn(shape, generator=generator).to(dtype)
        for shape in ((rows, width), (rows, rank), (rank, width))
    )
    if transposed:
        left, right = left.T.contiguous().T, right.T.contiguous().T
    stored = Stored(memoryview(weight.view(torch.uint8).numpy()).cast("B"), dtype)
    tensor = Adapted(stored, left, right, 0.7)
    whole = tensor.piece(0, rows * width)
    exact = weight.double() + 0.7 * left.double() @ right.double()
    torch.testing.assert_close(whole.view(rows, width).double(), exact, rtol=1e-6, atol=1e-6)
    for start in torch.randint(rows * width, (20,), generator=generator).tolist():
        for size in (1, 699, 12_345, PRODUCT):
            stop = min(start + size, rows * width)
            assert torch.equal(tensor.piece(start, stop), whole[start:stop])


# ---------------------------------------------------------------------------------------------------- sources


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    pico.make_model(folder / "model", "qwen3", num_hidden_layers=2, dtype=torch.bfloat16)
    pico.make_adapter(folder / "model", folder / "adapter", **PLAIN, modules_to_save=["lm_head"])
    return folder


@pytest.fixture
def folder(shared, tmp_path):
    """A model and an adapter of it that a test may change."""
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter").mkdir(exist_ok=True)
        (tmp_path / "adapter" / file).write_bytes((shared / "adapter" / file).read_bytes())
    (tmp_path / "model").symlink_to(shared / "model")
    return tmp_path


def describe_both(folder):
    return describe(str(folder / "model"), None, str(folder / "adapter"))


def recipe_of(records, weight):
    names = groups(open_checkpoint(records["tuned"]["path"]))
    return make_recipe({name: [weight, 1 - weight] for name in names}, records, "tuned", {})


def test_merges_and_differences_see_the_adapter(folder):
    records = {"tuned": describe_both(folder), "plain": describe(str(folder / "model"), None)}
    assert records["tuned"]["adapter"] == str(folder / "adapter")
    assert "adapter" not in records["plain"]
    assert records["tuned"]["fingerprint"] != records["plain"]["fingerprint"]
    checkpoints = [open_checkpoint(record["path"], record.get("adapter")) for record in records.values()]
    expected = {name: tensor.to(torch.bfloat16) for name, tensor in adapted(checkpoints[0]).items()}
    for output, weight, chunk in (("one", 1, 1 << 19), ("half", 0.5, 1 << 19), ("pieces", 0.5, 12)):
        merge(recipe_of(records, weight), folder / output, threads=1, chunk_bytes=chunk)
    one, half, pieces = (load_file(folder / n / "model.safetensors") for n in ("one", "half", "pieces"))
    assert all(torch.equal(one[name], tensor) for name, tensor in expected.items())
    assert all(torch.equal(half[name], pieces[name]) for name in half)
    changed = {name for name, tensor in half.items() if not torch.equal(tensor, one[name])}
    assert changed == {*checkpoints[0].adapter.low_rank, *checkpoints[0].adapter.replaced}
    assert (folder / "one" / "config.json").read_bytes() == (folder / "model" / "config.json").read_bytes()
    frame = layer_differences(checkpoints).set_index("tensor")
    assert set(frame.index[frame["l2"] > 0]) == changed


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_fingerprint_and_sample_cover_the_adapter(folder, file):
    before = fingerprint(open_checkpoint(folder / "model", folder / "adapter"))
    path = folder / "adapter" / file
    if file == "adapter_config.json":
        path.write_text(path.read_text().replace('"lora_alpha": 8', '"lora_alpha": 9'))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    changed = open_checkpoint(folder / "model", folder / "adapter")
    assert fingerprint(changed)["fingerprint"] != before["fingerprint"]
    assert sample(changed) != before["sample"]


def test_adapter_that_changed_since(folder):
    records = {"tuned": describe_both(folder), "plain": describe(str(folder / "model"), None)}
    recipe = recipe_of(records, 0.5)
    config = folder / "adapter" / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(BadInput, match=r"source tuned .*changed since the recipe was made"):
        merge(recipe, folder / "out")


def test_model_without_the_prefix_of_its_head(tmp_path):
    """As GPT-2 lies on the hub."""
    tensors = {name.removeprefix("model."): tensor for name, tensor in pico.tensors(width=16).items()}
    model = pico.write_checkpoint(tmp_path / "model", tensors)
    adapter = write_adapter(
        tmp_path / "adapter",
        {
            "base_model.model.model.layers.0.mlp.lora_A.weight": torch.ones(2, 16),
            "base_model.model.model.layers.0.mlp.lora_B.weight": torch.ones(16, 2),
        },
    )
    change = adapted(open_checkpoint(model, adapter))["layers.0.mlp.weight"] - tensors["layers.0.mlp.weight"]
    torch.testing.assert_close(change, torch.full((16, 16), 2.0))


# --------------------------------------------------------------------------------------------------- refusals


def rewrite(folder, config=(), tensors=()):
    """Change keys of the config and tensors of the weights; None removes."""
    path = folder / "adapter"
    settings = {**json.loads((path / "adapter_config.json").read_text()), **dict(config)}
    (path / "adapter_config.json").write_text(json.dumps(settings))
    changed = {**load_file(path / "adapter_model.safetensors"), **dict(tensors)}
    save_file({name: t for name, t in changed.items() if t is not None}, path / "adapter_model.safetensors")


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"use_dora": True},
            "use_dora is True, which is not supported; merge it with peft's merge_and_unload",
        ),
        ({"bias": "all"}, "bias is all, which"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is pissa, which"),
        ({"target_parameters": ["gate_up_proj"]}, "target_parameters is"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices is"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is"),
        ({"peft_type": "IA3"}, "peft_type is IA3, expected LORA"),
        ({"lora_alpha": None}, r"alpha of model\.layers\.\d\.\w+\.\w+ is None, expected a number"),
        ({"fan_in_fan_out": True}, r"changes a tensor of shape .* of the model has"),
    ],
)
def test_unsupported_adapters(folder, config, message):
    rewrite(folder, config)
    with pytest.raises(BadInput, match=message) as error:
        describe_both(folder)
    assert str(error.value).startswith(str(folder / "adapter" / "adapter_"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{Q}.lora_A.weight": None}, r"no tensor .*q_proj\.lora_A\.weight, expected it beside .*lora_B"),
        ({f"{Q}.lora_B.weight": None}, r"no tensor .*q_proj\.lora_B\.weight, expected it beside .*lora_A"),
        ({f"{Q}.lora_A.weight": torch.ones(3, 16)}, r"expected \[r, in\] and \[out, r\]"),
        ({f"{Q}.lora_A.weight": torch.ones(4, 17)}, r"shape \[16, 17\] .* model has \[16, 16\] in BF16"),
        ({f"{Q}.lora_A.weight": torch.ones(4, 16).int()}, r"lora_A\.weight is I32, expected BF16, F16, F32"),
        ({f"{Q}.lora_magnitude_vector": torch.ones(16)}, "lora_magnitude_vector is of no kind"),
        (
            {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 48)},
            "lora_embedding_A is of",
        ),
        ({"base_model.model.lm_head.weight": torch.ones(50, 16)}, r"shape \[50, 16\] .* has \[48, 16\]"),
        (
            {"base_model.model.score.weight": torch.ones(2)},
            r"changes score\.weight, which the model does not",
        ),
        (
            {
                "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight": torch.ones(2, 16),
                "base_model.model.model.layers.7.mlp.up_proj.lora_B.weight": torch.ones(24, 2),
            },
            r"changes model\.layers\.7\.mlp\.up_proj\.weight, which the model does not have; .* trained on \(.*model\)",
        ),
    ],
)
def test_adapters_that_do_not_fit(folder, tensors, message):
    rewrite(folder, tensors=tensors)
    with pytest.raises(BadInput, match=message) as error:
        describe_both(folder)
    assert str(folder / "adapter") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_adapter_must_be_finite(folder, value):
    bad = torch.ones(16, 4)
    bad[-1, -1] = value
    rewrite(folder, tensors={f"{Q}.lora_B.weight": bad})
    with pytest.raises(
        BadInput, match=r"adapter_model\.safetensors: tensor .*q_proj\.lora_B\.weight holds NaN or inf"
    ):
        check_finite(open_checkpoint(folder / "model", folder / "adapter"))


def test_files_that_are_missing_or_damaged(folder):
    path = folder / "adapter" / "adapter_model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(BadInput, match=r"adapter_model\.safetensors: header says .* truncated"):
        describe_both(folder)
    path.rename(path.with_name("adapter_model.bin"))
    with pytest.raises(
        BadInput, match=r"adapter_model\.safetensors: no such file; .*adapter_model\.bin, which"
    ):
        describe_both(folder)
    with pytest.raises(BadInput, match="a LoRA adapter, expected a whole model; give its base as `model`"):
        describe(str(folder / "adapter"), None)
    with pytest.raises(BadInput, match=r"none: no such folder, expected a LoRA adapter's"):
        open_adapter(Path("none"), {})


def test_embeddings_that_are_the_head(tmp_path):
    pico.make_model(tmp_path / "model", tied=True, num_hidden_layers=1)
    head = load_file(tmp_path / "model" / "model.safetensors")["model.embed_tokens.weight"]
    adapter = write_adapter(tmp_path / "adapter", {"base_model.model.model.embed_tokens.weight": head})
    with pytest.raises(
        BadInput, match=r"changes model\.embed_tokens\.weight, which is both embeddings and head"
    ):
        open_checkpoint(tmp_path / "model", adapter)


# ------------------------------------------------------------------------------------------------- other bases


def test_adapter_of_another_folder(folder, tmp_path):
    pico.make_model(tmp_path / "other", "qwen3", num_hidden_layers=2, dtype=torch.bfloat16, seed=1)
    with pytest.raises(
        BadInput, match=r"adapter: adapter of .*/model, expected one of .*/other; give the model"
    ):
        describe(str(tmp_path / "other"), None, str(folder / "adapter"))
    # Another tokenizer is no other base, and a folder that is gone says nothing.
    (tmp_path / "copy").mkdir()
    for file in (folder / "model").iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "copy" / "chat_template.jinja").write_text("other")
    describe(str(tmp_path / "copy"), None, str(folder / "adapter"))
    rewrite(folder, {"base_model_name_or_path": str(tmp_path / "gone")})
    describe(str(tmp_path / "other"), None, str(folder / "adapter"))


def test_adapter_of_another_model_of_the_hub(folder, monkeypatch):
    rewrite(folder, {"base_model_name_or_path": "org/base"})
    places = {"org/base": "model", "Org/Base": "model", "org/other": "model", "me/adapter": "adapter"}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda model, **options: str(folder / places[model])
    )
    for model in ("org/base", "Org/Base", str(folder / "model")):
        assert describe(model, None, "me/adapter")["adapter"] == str(folder / "adapter")
    with pytest.raises(BadInput, match="adapter of org/base, expected one of org/other"):
        describe("org/other", None, "me/adapter")
