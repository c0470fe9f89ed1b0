"""Hugging Face checkpoints in safetensors: layer groups, compatibility and hashes.

Weights are not loaded: headers are read, contents are seen through memory maps.
"""

import hashlib
import json
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .adapter import CONFIG as ADAPTER_CONFIG
from .adapter import Adapter, open_adapter
from .errors import BadInput
from .files import file_hash, read_json
from .headers import FLOATS, TensorInfo, read_header, read_mark

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
# What makes a model folder complete besides the weights; anything else there (README, code, other formats) is
# not it.
COMPANIONS = (".json", ".txt", ".jinja", ".model", ".tiktoken", ".bpe")

# A float is NaN or infinite exactly when all its exponent bits are set: (bits as an unsigned type, exponent
# mask).
FLOAT_EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
    "F32": (np.uint32, 0x7F800000),
}
MEBIBYTE = 1 << 20
SAMPLE_BYTES = 4096

EMBEDDINGS = "embeddings"
HEAD = "head"
# The names of the module list of layers in transformers' decoders: model.layers.N, transformer.h.N,
# rwkv.blocks.N, ... The first one decides, so that model.layers.3.mlp.experts.7 is of layer 3.
_LAYER = re.compile(r"^((?:.*?\.)??(?:layers?|h|blocks?))\.(\d+)(?:\.|$)")
# Encoders of other modalities stand before the decoder, multi-token prediction behind it.
_OTHER_ENCODER = re.compile(r"(?:^|\.)(?:vision|visual|image|audio|speech|multi_modal)\w*\.")
_PREDICTOR = re.compile(r"^(?:model\.)?mtp\.")
# embed_out is a head (GPT-NeoX), embedding_norm the final norm (LFM2).
_EMBEDDING = re.compile(r"embed(?!_out|ding_norm)|(?:^|\.)(?:wte|wpe|project_in)\.")

# Keys of config.json that do not change what the network computes. For rotary models the longest context is
# no part of the computation; where positions are learned, the tensor's shape tells.
_INERT_KEYS = re.compile(
    r"_.*|architectures|model_type|transformers_version|(torch_)?dtype|.*_token_id|use_cache"
    r"|initializer_range|.*dropout.*|.*pdrop|max_position_embeddings|pretraining_tp|output_.*|return_dict|router_aux_loss_coef"
    r"|auto_map|task_specific_params|id2label|label2id|tokenizer_class|unsloth.*"
)


@dataclass(frozen=True)
class Checkpoint:
    """A model folder: its weight files, its config.json, and its tensors in the order of the files.

    adapter: what changes some of the tensors when they are read; names and shapes stay.
    """

    path: Path
    files: tuple[Path, ...]
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    adapter: Adapter | None = None

    @property
    def layers(self) -> int:
        return len(groups(self).keys() - {EMBEDDINGS, HEAD})

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding matrix; if config is silent: when it has no tensor."""
        return bool(self.config.get("tie_word_embeddings", not self.head_tensors))

    @property
    def head_tensors(self) -> list[str]:
        """The output projection, whatever its name: the matrix behind the layers of an embedding's shape."""
        embeddings = {
            t.shape for n, t in self.tensors.items() if layer_of(n) == EMBEDDINGS and len(t.shape) == 2
        }
        return [n for n, t in self.tensors.items() if layer_of(n) == HEAD and t.shape in embeddings]

    def has_vocabulary(self, name: str) -> bool:
        """Whether a tensor has a row, or an element, a token: embeddings, the head, its bias."""
        size = self.config.get("vocab_size", (self.config.get("text_config") or {}).get("vocab_size"))
        return layer_of(name) in (EMBEDDINGS, HEAD) and self.tensors[name].shape[:1] == (size,)

    @property
    def parts(self) -> Iterator["Checkpoint | Adapter"]:
        """The model, and its adapter if it has one."""
        yield self
        if self.adapter is not None:
            yield self.adapter


# ---------------------------------------------------------------------------------------------------- reading


def open_checkpoint(path: str | Path, adapter: str | Path | None = None) -> Checkpoint:
    """Read the headers and config.json of a model folder (single file or shards), and of a LoRA adapter's folder.

    Raises BadInput for a missing folder, config or shard, weights in another format, a truncated or damaged
    file, and for an adapter of another model, or one that changes a matrix that is both embeddings and head.
    """
    path = Path(path)
    if not path.is_dir():
        raise BadInput(
            f"{path}: no such model folder; give a folder with config.json and safetensors weights"
        )
    if (path / ADAPTER_CONFIG).exists() and not (path / "config.json").exists():
        raise BadInput(
            f"{path}: a LoRA adapter, expected a whole model; give its base as `model` and this folder as `adapter`"
        )
    config = read_json(path / "config.json")
    if (path / SINGLE_FILE).exists():
        files, expected = [path / SINGLE_FILE], set()
    elif (path / SHARD_INDEX).exists():
        weight_map = read_json(path / SHARD_INDEX).get("weight_map", {})
        files, expected = [path / name for name in sorted(set(weight_map.values()))], set(weight_map)
    else:
        found = sorted(
            f.name for f in path.iterdir() if f.suffix in {".safetensors", ".bin", ".pt", ".pth", ".gguf"}
        )
        raise BadInput(
            f"{path}: no {SINGLE_FILE}, found {', '.join(found) or 'no weights at all'}; "
            "convert the whole model with transformers' save_pretrained, which writes safetensors"
        )
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        if not file.exists():
            raise BadInput(f"{file}: shard is missing, {SHARD_INDEX} names {len(files)}; download it again")
        tensors |= read_header(file)
    if missing := sorted(expected - tensors.keys()):
        raise BadInput(f"{path / SHARD_INDEX}: no shard holds tensor {missing[0]}; download the folder again")
    checkpoint = Checkpoint(path, tuple(files), config, tensors)
    return checkpoint if adapter is None else _adapted(checkpoint, Path(adapter))


def _adapted(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    adapter = open_adapter(folder, checkpoint.tensors)
    for name in [*adapter.low_rank, *adapter.replaced] if checkpoint.tied else []:
        if layer_of(name) == EMBEDDINGS or name in checkpoint.head_tensors:
            raise BadInput(
                f"{folder}: changes {name}, which is both embeddings and head of {checkpoint.path}; "
                "merge it with peft's merge_and_unload, and give that folder as `model`"
            )
    return replace(checkpoint, adapter=adapter)


def map_tensors(checkpoint: Checkpoint | Adapter) -> dict[str, memoryview]:
    """The bytes of every tensor as views of memory-mapped files: read when touched, never copied.

    They are as stored: an adapter's changes are not in its model's.
    """
    maps = {}
    for file in checkpoint.files:
        with open(file, "rb") as stream:
            maps[file] = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    return {name: maps[t.file][t.start : t.end] for name, t in checkpoint.tensors.items()}


def check_replaceable(output: Path) -> None:
    """BadInput unless a merged model may take the place: nothing is there, an empty folder, or a merged model."""
    if not output.exists() or (output.is_dir() and (not any(output.iterdir()) or _merged(output))):
        return
    raise BadInput(
        f"{output}: there already and no merged model, expected a new name, an empty folder, or a model that was "
        "merged before; choose another name, or remove it yourself"
    )


def _merged(folder: Path) -> bool:
    try:
        return read_mark(folder / SINGLE_FILE) is not None
    except (OSError, BadInput):
        return False


def companion_files(path: Path) -> list[Path]:
    """Config, generation config, tokenizer and chat templates of a model folder: all but the weights."""
    return sorted(
        file
        for file in [*path.iterdir(), *path.glob("additional_chat_templates/*")]
        if file.is_file() and file.suffix in COMPANIONS and not file.name.endswith(".index.json")
    )


# ----------------------------------------------------------------------------------------------------- groups


def layer_of(name: str) -> str:
    """Tensor group of a tensor name: `embeddings`, `layers.<N>` or `head` (all behind the layers)."""
    if _OTHER_ENCODER.search(name):
        return EMBEDDINGS
    if _PREDICTOR.search(name):
        return HEAD
    if layer := _LAYER.match(name):
        return f"layers.{int(layer.group(2))}"
    return EMBEDDINGS if _EMBEDDING.search(name) else HEAD


def groups(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Tensor names per group in the order of depth; every tensor is in exactly one group.

    A tied head that is stored all the same goes with the embeddings, or the two would part.
    Raises BadInput unless the layers form one stack that is numbered without gaps.
    """
    members: dict[str, list[str]] = {}
    tied_head = checkpoint.head_tensors if checkpoint.tied else []
    for name in checkpoint.tensors:
        members.setdefault(EMBEDDINGS if name in tied_head else layer_of(name), []).append(name)
    stacks = {
        match.group(1)
        for group, names in members.items()
        if group not in (EMBEDDINGS, HEAD)
        for name in names
        if (match := _LAYER.match(name))
    }
    if len(stacks) != 1:
        raise BadInput(
            f"{checkpoint.path}: layers in {', '.join(sorted(stacks)) or 'no known place'}, "
            "expected one stack such as model.layers; only decoders are supported"
        )
    layers = [f"layers.{i}" for i in range(len(members.keys() - {EMBEDDINGS, HEAD}))]
    for layer in layers:
        if layer not in members:
            raise BadInput(
                f"{checkpoint.path}: no tensor of {layer}, there are {len(layers)} layers; a shard is missing"
            )
    return {group: members[group] for group in [EMBEDDINGS, *layers, HEAD] if group in members}


# ---------------------------------------------------------------------------------------------- compatibility


def check_compatible(checkpoints: Sequence[Checkpoint], vocabulary: str = "exact") -> None:
    """Check that the checkpoints can be merged: fine-tunes of one model.

    vocabulary: "match" lets the number of tokens differ, "exact" does not.
    Raises BadInput naming the first difference in architecture, tensor names, vocabulary, shapes, or in a key of
    config.json that changes the computation; also where tensors that are not BF16, F16 or F32 (they are copied, not
    merged) differ.
    """
    for other in checkpoints[1:]:
        first = checkpoints[0]
        _check_keys(first, other, _architecture(first.config), _architecture(other.config))
        _check_tensors(first, other, vocabulary)
        ours, theirs = (_computation(checkpoint.config) for checkpoint in (first, other))
        if vocabulary == "match":
            ours = {key: value for key, value in ours.items() if key.rpartition(".")[2] != "vocab_size"}
        _check_keys(first, other, ours, theirs)
        _check_copied(first, other)


def _check_tensors(a: Checkpoint, b: Checkpoint, vocabulary: str) -> None:
    for name in [*a.tensors, *b.tensors]:
        for has, lacks in ((a, b), (b, a)):
            if name not in lacks.tensors:
                raise BadInput(
                    f"{lacks.path}: no tensor {name}, {has.path} has it; give fine-tunes of one model"
                )
    for name, ours in a.tensors.items():
        theirs = b.tensors[name]
        rows = a.has_vocabulary(name) and b.has_vocabulary(name) and ours.shape[1:] == theirs.shape[1:]
        if ours.shape != theirs.shape and not (rows and vocabulary == "match"):
            if rows:
                raise BadInput(
                    f"{b.path}: vocabulary of {theirs.shape[0]} in {name}, {ours.shape[0]} in {a.path}; give sources "
                    "with one tokenizer and the same padding, or set merge.vocabulary: match, which cuts or pads to "
                    "files_from's"
                )
            raise BadInput(
                f"{b.path}: tensor {name} has shape {list(theirs.shape)}, {list(ours.shape)} in {a.path}; "
                "give fine-tunes of one model"
            )
        if ours.dtype != theirs.dtype and not {ours.dtype, theirs.dtype} <= set(FLOATS):
            raise BadInput(
                f"{b.path}: tensor {name} is {theirs.dtype}, {ours.dtype} in {a.path}; {_unquantised(a, b)}"
            )


def _unquantised(*checkpoints: Checkpoint) -> str:
    advice = f"only {', '.join(FLOATS)} can be merged: give unquantised weights"
    for checkpoint in checkpoints:
        if "quantization_config" in checkpoint.config:
            return f"{advice} (quantization_config in {checkpoint.path / 'config.json'})"
    return advice


def _check_keys(a: Checkpoint, b: Checkpoint, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    # A key that only one file has is a default that the other's version of transformers does not write.
    for key in [key for key in ours if key in theirs]:
        if ours[key] != theirs[key]:
            raise BadInput(
                f"{b.path / 'config.json'}: {key} is {theirs[key]}, {ours[key]} in {a.path}; "
                "give fine-tunes of one model"
            )


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config.get(key) for key in ("architectures", "model_type")}


def _computation(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys of config.json that decide what is computed, flat, in one spelling of the rotary embedding."""
    config = dict(config)
    if config.keys() & {"rope_theta", "rope_parameters"}:
        theta = {"rope_theta": config.pop("rope_theta")} if "rope_theta" in config else {}
        scaling = config.pop("rope_scaling", None) or {}
        rope = {"rope_type": "default", **theta, **scaling, **(config.pop("rope_parameters", None) or {})}
        rope["rope_type"] = rope.pop("type", rope["rope_type"])  # the key's older name
        config |= {f"rope.{key}": value for key, value in rope.items()}
    if not config.get("use_sliding_window", True):
        config = {k: v for k, v in config.items() if k not in ("sliding_window", "max_window_layers")}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if not _INERT_KEYS.fullmatch(key):
            name = prefix + key
            flat |= _computation(value, name + ".") if isinstance(value, dict) else {name: value}
    return flat


def _check_copied(a: Checkpoint, b: Checkpoint) -> None:
    copied = [name for name, tensor in a.tensors.items() if tensor.dtype not in FLOATS]
    ours, theirs = (map_tensors(checkpoint) if copied else {} for checkpoint in (a, b))
    for name in copied:
        if ours[name] != theirs[name]:
            raise BadInput(
                f"{b.path}: tensor {name} of dtype {a.tensors[name].dtype} differs from {a.path}'s; "
                f"{_unquantised(a, b)}"
            )


# --------------------------------------------------------------------------------------------- what is inside


def check_finite(checkpoint: Checkpoint) -> None:
    """Read all weights once, an adapter's too; BadInput names file and tensor of the first NaN or infinity."""
    for part in checkpoint.parts:
        for name, view in map_tensors(part).items():
            tensor = part.tensors[name]
            if tensor.dtype in FLOATS and not _finite(view, tensor.dtype):
                raise BadInput(
                    f"{tensor.file}: tensor {name} holds NaN or infinity; give a source with finite weights"
                )


def _finite(view: memoryview, dtype: str) -> bool:
    unsigned, mask = FLOAT_EXPONENTS[dtype]
    pieces = (view[start : start + MEBIBYTE] for start in range(0, len(view), MEBIBYTE))
    return not any(((np.frombuffer(piece, unsigned) & mask) == mask).any() for piece in pieces)


def fingerprint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The record of a source: `fingerprint` (sha256 over all contents), `sample`, and what the headers say.

    Contents are names, dtypes, shapes and bytes of the tensors and the companion files (config, tokenizer,
    chat template), and an adapter's, since all of them decide a score. How tensors are spread over files is not
    among them.
    """
    return {
        "fingerprint": _hash(checkpoint, whole=True),
        "sample": sample(checkpoint),
        "architecture": (checkpoint.config.get("architectures") or [checkpoint.config.get("model_type")])[0],
        "dtype": "+".join(sorted({t.dtype for t in checkpoint.tensors.values()})),
        "layers": checkpoint.layers,
        "parameters": sum(t.parameters for t in checkpoint.tensors.values()),
        "tied": checkpoint.tied,
        "groups": list(groups(checkpoint)),
    }


def sample(checkpoint: Checkpoint) -> str:
    """sha256 over headers, companion files, and first and last 4 KiB of every tensor: a cheap check."""
    return _hash(checkpoint, whole=False)


def weights_sample(checkpoint: Checkpoint) -> str:
    """Likewise, over headers and ends of the model's tensors alone: without companion files, without an adapter."""
    return _tensors_hash(checkpoint, whole=False).hexdigest()


def _hash(checkpoint: Checkpoint, whole: bool) -> str:
    digest = _tensors_hash(checkpoint, whole)
    for file in companion_files(checkpoint.path):
        digest.update(f"{file.relative_to(checkpoint.path)} {file_hash(file)}\n".encode())
    if checkpoint.adapter is not None:
        digest.update(_tensors_hash(checkpoint.adapter, whole).digest())
        digest.update(file_hash(checkpoint.adapter.path / ADAPTER_CONFIG).encode())
    return digest.hexdigest()


def _tensors_hash(part: Checkpoint | Adapter, whole: bool) -> "hashlib._Hash":
    digest = hashlib.sha256()
    views = map_tensors(part)
    for name in sorted(views):
        tensor, view = part.tensors[name], views[name]
        digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode())
        for piece in [view] if whole else [view[:SAMPLE_BYTES], view[-SAMPLE_BYTES:]]:
            digest.update(piece)
    return digest
