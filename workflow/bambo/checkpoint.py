"""Hugging Face checkpoints in safetensors: layer groups and hashes.

Weights are not loaded: headers are read, contents are seen through memory maps.
"""

import hashlib
import json
import mmap
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

ATTENTION = "attention"
MLP = "mlp"
MODULES = (ATTENTION, MLP)  # in the order in which a layer applies them
# By the first name behind the layer's number: the MLP itself (experts and their router, too), and norms of its own.
_MLP = re.compile(
    r"mlp|feed_?forward|(?:^|_)ff[nw]?(?:_|$)|(?:^|_)moe(?:_|$)|experts?$|router$|fc\d$|w\d$"
    r"|(?:ln|norm)_?2$|final_layer_norm$"
)
# It feeds the MLP (Llama, Qwen, GPT-NeoX), unless the MLP's output has a norm, too: then it ends the attention (Gemma).
_BETWEEN = "post_attention_layernorm"
_BEHIND_MLP = "post_feedforward_layernorm"


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
    if not output.exists() or (output.is_dir() and (not any(output.iterdir()) or merged_from(output))):
        return
    raise BadInput(
        f"{output}: there already and no merged model, expected a new name, an empty folder, or a model that was "
        "merged before; choose another name, or remove it yourself"
    )


def merged_from(folder: Path) -> str | None:
    """The id of the recipe that a folder's model was merged from; None where there is no merged model."""
    try:
        marks = {read_mark(file) for file in folder.glob("*.safetensors")}
    except (OSError, BadInput):
        return None
    return marks.pop() if len(marks) == 1 else None


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


def modules(group: str, names: Sequence[str]) -> dict[str, list[str]]:
    """The tensors of a group, those of a layer's attention and of its MLP apart: `layers.3.attention`, `layers.3.mlp`.

    A norm goes with what it feeds; one that feeds both, in layers that apply them side by side, with the attention.
    All that is not the MLP's counts as attention, whatever mixes tokens there (convolutions, state spaces). Embeddings,
    head, and layers that lack one of the two (Mamba's) stay whole.
    """
    places = {name: match.end() for name in names if (match := _LAYER.match(name))}
    if group in (EMBEDDINGS, HEAD) or not places:
        return {group: list(names)}
    first = {name: name[end:].partition(".")[0] for name, end in places.items()}
    ends_attention = _BEHIND_MLP in first.values()
    found: dict[str, list[str]] = {f"{group}.{module}": [] for module in MODULES}
    for name, own in first.items():
        is_mlp = not ends_attention if own == _BETWEEN else _MLP.search(own)
        found[f"{group}.{MLP if is_mlp else ATTENTION}"].append(name)
    return found if all(found.values()) else {group: list(names)}


def members(groups: Mapping[str, Sequence[str]], named: Iterable[str]) -> dict[str, list[str]]:
    """The tensors of each group, with the modules of those layers apart whose modules are `named`, not the layer."""
    apart = {layer for each in named if (layer := without_module(each)) != each}
    found: dict[str, list[str]] = {}
    for group, names in groups.items():
        found |= modules(group, names) if group in apart else {group: list(names)}
    return found


def without_module(group: str) -> str:
    """The group that a module is part of: `layers.3` of `layers.3.mlp`; any other group itself."""
    whole, _, last = group.rpartition(".")
    return whole if last in MODULES else group


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
