import json
import re
import shutil

import pico
import pytest
import torch
from bambo.checkpoint import (
    check_finite,
    check_replaceable,
    companion_files,
    fingerprint,
    groups,
    layer_of,
    map_tensors,
    open_checkpoint,
    sample,
)
from bambo.compatibility import check_compatible
from bambo.errors import BadInput
from bambo.headers import encode_header, read_header, read_mark
from safetensors import safe_open
from safetensors.torch import load_file, save_file

# ----------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("model.layers.1.self_attn.q_proj.weight", "layers.1"),
        ("model.layers.10.self_attn.q_proj.weight", "layers.10"),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "layers.3"),
        ("model.norm.weight", "head"),
        ("lm_head.weight", "head"),
        ("transformer.h.11.ln_1.bias", "layers.11"),
        ("h.0.attn.c_attn.weight", "layers.0"),
        ("wpe.weight", "embeddings"),
        ("transformer.ln_f.weight", "head"),
        ("transformer.word_embeddings_layernorm.bias", "embeddings"),
        ("gpt_neox.layers.2.mlp.dense_h_to_4h.weight", "layers.2"),
        ("gpt_neox.embed_in.weight", "embeddings"),
        ("embed_out.weight", "head"),
        ("model.decoder.layers.5.fc1.weight", "layers.5"),
        ("model.decoder.embed_positions.weight", "embeddings"),
        ("model.decoder.final_layer_norm.weight", "head"),
        ("transformer.blocks.4.norm_1.weight", "layers.4"),
        ("rwkv.blocks.0.attention.key.weight", "layers.0"),
        ("backbone.embeddings.weight", "embeddings"),
        ("backbone.norm_f.weight", "head"),
        ("model.embedding_norm.weight", "head"),
        ("model.language_model.layers.6.mlp.up_proj.weight", "layers.6"),
        ("model.vision_tower.encoder.layers.6.mlp.fc1.weight", "embeddings"),
        ("model.visual.blocks.3.attn.qkv.weight", "embeddings"),
        ("mtp.layers.0.mlp.up_proj.weight", "head"),
    ],
)
def test_layer_of(name, group):
    assert layer_of(name) == group


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", pico.ARCHITECTURES)
def test_groups_of_real_architectures(tmp_path, architecture, tied):
    model = pico.make_model(tmp_path, architecture, tied=tied)
    checkpoint = open_checkpoint(tmp_path)
    found = groups(checkpoint)
    assert list(found) == ["embeddings", *(f"layers.{i}" for i in range(12)), "head"]
    assert sorted(name for names in found.values() for name in names) == sorted(checkpoint.tensors)
    for i in range(12):
        assert all(re.search(r"\.(\d+)\.", name)[1] == str(i) for name in found[f"layers.{i}"])
    assert {len(found[f"layers.{i}"]) for i in range(12)} == {len(found["layers.0"])}
    assert (checkpoint.layers, checkpoint.tied) == (12, tied)
    # The model itself says what its embeddings and its head are.
    stored = load_file(tmp_path / "model.safetensors")
    embeddings = [stored[name] for name in found["embeddings"]]
    assert any(torch.equal(model.get_input_embeddings().weight, tensor) for tensor in embeddings)
    heads = [t for n in found["head"] if (t := stored[n]).shape == model.get_output_embeddings().weight.shape]
    assert len(heads) == (not tied)
    assert all(torch.equal(model.get_output_embeddings().weight, tensor) for tensor in heads)


def test_stored_tied_head_follows_embeddings(tmp_path):
    tensors = pico.tensors()
    checkpoint = open_checkpoint(pico.write_checkpoint(tmp_path, tensors, {"tie_word_embeddings": True}))
    assert groups(checkpoint)["embeddings"] == ["lm_head.weight", "model.embed_tokens.weight"]
    assert groups(checkpoint)["head"] == ["model.norm.weight"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"encoder.layers.0.weight": torch.ones(2)}, r"layers in encoder\.layers, model\.layers"),
        ({"model.layers.3.norm.weight": torch.ones(2)}, r"no tensor of layers\.2"),
    ],
)
def test_only_one_gapless_stack(tmp_path, extra, message):
    checkpoint = open_checkpoint(pico.write_checkpoint(tmp_path, pico.tensors() | extra))
    with pytest.raises(BadInput, match=message):
        groups(checkpoint)


# ---------------------------------------------------------------------------------------------------- reading


def test_headers_agree_with_safetensors(tmp_path):
    tensors = pico.tensors() | {
        "model.mask": torch.tensor([True, False, True]),
        "model.none": torch.empty(0, 3),
    }
    checkpoint = open_checkpoint(pico.write_checkpoint(tmp_path, tensors))
    assert checkpoint.tensors.keys() == tensors.keys()
    views = map_tensors(checkpoint)
    for name, tensor in tensors.items():
        assert checkpoint.tensors[name].shape == tuple(tensor.shape)
        assert bytes(views[name]) == tensor.numpy().tobytes()


def test_shards_and_single_file_are_the_same_model(tmp_path):
    pico.make_model(tmp_path / "single")
    pico.make_model(tmp_path / "shards", max_shard_size="40KB")
    single, shards = open_checkpoint(tmp_path / "single"), open_checkpoint(tmp_path / "shards")
    assert len(shards.files) > 2
    check_compatible([single, shards])
    assert fingerprint(single) == fingerprint(shards)


def test_encoded_header_is_safetensors_and_aligned(tmp_path):
    mixed = {
        "a": torch.ones(3, dtype=torch.bfloat16),
        "b": torch.ones(3),
        "c": torch.ones(1, dtype=torch.bool),
    }
    file = pico.write_checkpoint(tmp_path / "in", mixed) / "model.safetensors"
    header, offsets = encode_header({name: read_header(file)[name] for name in "abc"})
    assert len(header) % 8 == 0
    assert offsets == {"b": len(header), "a": len(header) + 12, "c": len(header) + 18}
    marked, _ = encode_header(read_header(file), "0123456789ab")
    for name, head in (("out", header), ("marked", marked)):
        (tmp_path / name).write_bytes(head + bytes(19))
    with safe_open(tmp_path / "marked", "pt") as written:
        assert written.metadata() == {"format": "pt", "bambo": "0123456789ab"}
    assert [read_mark(tmp_path / name) for name in ("marked", "out")] == ["0123456789ab", None]
    with safe_open(tmp_path / "out", "pt") as written:
        assert written.metadata() == {"format": "pt"}
        assert {name: written.get_tensor(name).dtype for name in "abc"} == {
            n: t.dtype for n, t in mixed.items()
        }


def damage(path, kind):
    file = path / "model.safetensors"
    data = file.read_bytes()
    if kind == "truncated":
        file.write_bytes(data[:-100])
    elif kind == "longer":
        file.write_bytes(data + b"\0")
    elif kind == "pointer":
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    elif kind == "header":
        file.write_bytes(data[:8] + b"x" + data[9:])
    elif kind == "shape":
        file.write_bytes(data.replace(b'"shape":[7,4]', b'"shape":[9,4]'))
    elif kind == "dtype":
        file.write_bytes(data.replace(b'"dtype":"F32"', b'"dtype":"XYZ"'))
    elif kind == "bin":
        file.rename(path / "pytorch_model.bin")
    elif kind == "config":
        (path / "config.json").unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", r"header says (\d+) bytes, file has (\d+); truncated"),
        ("longer", r"header says \d+ bytes, file has \d+; damaged"),
        ("pointer", "Git LFS pointer"),
        ("header", "corrupt safetensors header"),
        ("shape", r"tensor lm_head\.weight does not fit its bytes"),
        ("dtype", "unknown dtype XYZ"),
        ("bin", r"found pytorch_model\.bin; convert"),
        ("config", r"config\.json: no such file"),
    ],
)
def test_damaged_checkpoints(tmp_path, kind, message):
    damage(pico.write_checkpoint(tmp_path, pico.tensors()), kind)
    with pytest.raises(BadInput, match=message) as error:
        open_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_folder_and_shard(tmp_path):
    with pytest.raises(BadInput, match=r"models/none: no such model folder"):
        open_checkpoint("models/none")
    pico.make_model(tmp_path, max_shard_size="40KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    first = sorted(tmp_path.glob("*.safetensors"))[0]
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(BadInput, match=f"{shard.name}: shard is missing"):
        open_checkpoint(tmp_path)
    shutil.copy(first, shard)
    with pytest.raises(BadInput, match="no shard holds tensor"):
        open_checkpoint(tmp_path)
    shard.write_bytes(content[:-1])
    with pytest.raises(BadInput, match=f"{shard.name}: header says"):
        open_checkpoint(tmp_path)


# ---------------------------------------------------------------------------------------------- compatibility

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "num_attention_heads": 2,
    "vocab_size": 7,
    "rms_norm_eps": 1e-6,
}


def compatible(tmp_path, tensors=None, vocabulary="exact", **config):
    """Compare a checkpoint with one that has other tensors or config keys."""
    a = pico.write_checkpoint(
        tmp_path / "a", pico.tensors(), LLAMA | {"rope_theta": 1e4, "rope_scaling": None}
    )
    b = pico.write_checkpoint(tmp_path / "b", tensors or pico.tensors(seed=1), LLAMA | config)
    check_compatible([open_checkpoint(a), open_checkpoint(b)], vocabulary)


@pytest.mark.parametrize(
    "config",
    [
        {
            "transformers_version": "4.0",
            "eos_token_id": [1, 2],
            "dtype": "bfloat16",
            "attention_dropout": 0.1,
        },
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}},
        {"rope_theta": 1e4, "max_position_embeddings": 5},
        {"head_dim": 2},  # spelt out by one version of transformers, left to the default by the other
    ],
)
def test_harmless_differences(tmp_path, config):
    compatible(tmp_path, **config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"architectures": ["Qwen3ForCausalLM"]},
            r"architectures is \['Qwen3ForCausalLM'\], \['LlamaForCausalLM'\]",
        ),
        ({"num_attention_heads": 4}, "num_attention_heads is 4, 2 in"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05, 1e-06 in"),
        ({"vocab_size": 8}, "vocab_size is 8, 7 in"),
        ({"rope_theta": 1e6}, r"rope\.rope_theta is 1000000\.0, 10000\.0 in"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4}},
            r"rope\.rope_type is yarn, default",
        ),
        (
            {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2}},
            r"rope\.rope_type is linear, default",
        ),
    ],
)
def test_config_that_computes_otherwise(tmp_path, config, message):
    with pytest.raises(BadInput, match=message):
        compatible(tmp_path, **config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model.layers.0.mlp.weight": torch.ones(4, 5)},
            r"layers\.0\.mlp\.weight has shape \[4, 5\], \[4, 4\] in",
        ),
        (
            {"model.norm.weight": torch.ones(4, dtype=torch.int8)},
            r"b: tensor model\.norm\.weight is I8, F32 in .*/a; only BF16, F16, F32 can be merged: give unquantised",
        ),
        (
            {"model.norm.weight": torch.ones(4).to(torch.float8_e4m3fn)},
            r"tensor model\.norm\.weight is F8_E4M3, F32 in",
        ),
        ({"model.norm.bias": torch.ones(4)}, r"/a: no tensor model\.norm\.bias"),
        ({"lm_head.weight": None}, r"/b: no tensor lm_head\.weight"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, change, message):
    tensors = {name: tensor for name, tensor in (pico.tensors(seed=1) | change).items() if tensor is not None}
    with pytest.raises(BadInput, match=message):
        compatible(tmp_path, tensors)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"])
def test_vocabularies_may_differ_where_asked(tmp_path, name):
    a = pico.tensors() | {"lm_head.bias": torch.ones(7)}
    b = {key: torch.ones(9, *a[key].shape[1:]) if key == name else tensor for key, tensor in a.items()}
    paths = [
        pico.write_checkpoint(tmp_path / folder, tensors, {"vocab_size": size})
        for folder, tensors, size in [("a", a, 7), ("b", b, 9), ("c", b, 8)]
    ]
    a, b, c = map(open_checkpoint, paths)
    with pytest.raises(
        BadInput, match=rf"b: vocabulary of 9 in {name}, 7 in .*/a; .* set merge\.vocabulary: match"
    ):
        check_compatible([a, b])
    check_compatible([a, b], "match")
    check_compatible([b, a], "match")
    # Rows that are no tokens are never cut, and other keys of config.json still count.
    with pytest.raises(BadInput, match=rf"c: tensor {name} has shape"):
        check_compatible([a, c], "match")
    with pytest.raises(BadInput, match=r"tensor model\.norm\.weight has shape"):
        compatible(tmp_path, pico.tensors() | {"model.norm.weight": torch.ones(5)}, "match")
    with pytest.raises(BadInput, match="rms_norm_eps is 1, 1e-06 in"):
        compatible(tmp_path, vocabulary="match", vocab_size=8, rms_norm_eps=1)


def test_floating_types_may_differ(tmp_path):
    for dtype in (torch.bfloat16, torch.float16):
        compatible(tmp_path, pico.tensors(seed=1, dtype=dtype))


def test_tensors_that_are_no_floats_must_be_equal(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for path, value in zip(paths, (1, 1, 2), strict=True):
        pico.write_checkpoint(path, pico.tensors() | {"model.layers.0.mask": torch.tensor([value])})
    a, b, c = map(open_checkpoint, paths)
    check_compatible([a, b])
    with pytest.raises(BadInput, match=r"tensor model\.layers\.0\.mask of dtype I64 differs"):
        check_compatible([a, b, c])


def test_quantised_weights_are_named_with_their_reason(tmp_path):
    quantised = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in pico.tensors().items()}
    paths = [tmp_path / "a", tmp_path / "b"]
    pico.write_checkpoint(paths[0], pico.tensors())
    pico.write_checkpoint(paths[1], quantised, {"quantization_config": {"quant_method": "fp8"}})
    with pytest.raises(BadInput, match=r"is F8_E4M3, F32 in .*\(quantization_config in .*/b/config\.json\)"):
        check_compatible([open_checkpoint(path) for path in paths])


# --------------------------------------------------------------------------------------------------- contents


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_check_finite(tmp_path, dtype, value):
    tensors = pico.tensors(dtype=dtype) | {
        "model.norm.weight": torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
    }
    check_finite(open_checkpoint(pico.write_checkpoint(tmp_path, tensors)))
    tensors["model.layers.1.mlp.weight"][3, 3] = value
    with pytest.raises(
        BadInput, match=r"model\.safetensors: tensor model\.layers\.1\.mlp\.weight holds NaN or inf"
    ):
        check_finite(open_checkpoint(pico.write_checkpoint(tmp_path, tensors)))


def test_check_finite_reads_to_the_end(tmp_path):
    large = torch.zeros(700_000)  # more than two chunks
    large[-1] = torch.inf
    with pytest.raises(BadInput, match="tensor large"):
        check_finite(open_checkpoint(pico.write_checkpoint(tmp_path, {"large": large})))


def test_fingerprint_sees_every_byte_and_sample_the_ends(tmp_path):
    def record(**changes):
        tensors = pico.tensors(width=64)
        middle = tensors["model.layers.0.mlp.weight"]
        assert middle.nbytes > 2 * 4096
        middle.view(-1)[changes.get("element", 0)] += changes.get("value", 0.0)
        pico.write_checkpoint(tmp_path, tensors)
        (tmp_path / "chat_template.jinja").write_text(changes.get("template", "{{ messages }}"))
        (tmp_path / "README.md").write_text(changes.get("readme", ""))
        return fingerprint(open_checkpoint(tmp_path))

    plain, inner = record(), record(element=2000, value=9.0)
    assert record(readme="other") == plain
    assert inner["fingerprint"] != plain["fingerprint"]
    assert inner["sample"] == plain["sample"]
    for change in ({"value": 1.0}, {"element": -1, "value": 9.0}, {"template": "other"}):
        changed = record(**change)
        assert changed["fingerprint"] != plain["fingerprint"]
        assert changed["sample"] != plain["sample"]
    assert sample(open_checkpoint(tmp_path)) == changed["sample"]
    assert (plain["dtype"], plain["layers"], plain["groups"]) == (
        "F32",
        2,
        ["embeddings", "layers.0", "layers.1", "head"],
    )


def test_companion_files(tmp_path):
    kept = ["config.json", "generation_config.json", "merges.txt", "tokenizer.model", "chat_template.jinja"]
    left = [
        "model.safetensors.index.json",
        "README.md",
        "modeling.py",
        "model.safetensors",
        "pytorch_model.bin",
    ]
    for name in kept + left:
        (tmp_path / name).write_text("")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tools.jinja").write_text("")
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "params.json").write_text(json.dumps({}))
    found = {str(file.relative_to(tmp_path)) for file in companion_files(tmp_path)}
    assert found == {*kept, "additional_chat_templates/tools.jinja"}


def test_mixed_dtypes_are_told(tmp_path):
    tensors = pico.tensors() | {"model.norm.weight": torch.ones(4, dtype=torch.bfloat16)}
    save_file(tensors, pico.write_checkpoint(tmp_path, {}) / "model.safetensors")
    assert fingerprint(open_checkpoint(tmp_path))["dtype"] == "BF16+F32"


# ----------------------------------------------------------------------------------------------------- output


def test_what_may_be_replaced(tmp_path):
    model = pico.write_checkpoint(tmp_path / "model", pico.tensors())
    tensors = read_header(model / "model.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/model.safetensors").write_bytes(encode_header(tensors, "0123456789ab")[0])
    for name in ("new", "empty", "merged"):
        check_replaceable(tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/model.safetensors").write_bytes(b"x")
    for name in ("model", "folder", "damaged", "folder/notes.txt"):
        with pytest.raises(
            BadInput, match=rf"{name}: there already and no merged model, .*; choose another name"
        ):
            check_replaceable(tmp_path / name)
