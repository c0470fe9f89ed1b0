"""Whether models can be merged: what must be equal in all of them."""

import re
from collections.abc import Sequence
from typing import Any

from .checkpoint import Checkpoint, map_tensors
from .errors import BadInput
from .headers import FLOATS

# Keys of config.json that do not change what the network computes. For rotary models the longest context is
# no part of the computation; where positions are learned, the tensor's shape tells.
_INERT_KEYS = re.compile(
    r"_.*|architectures|model_type|transformers_version|(torch_)?dtype|.*_token_id|use_cache"
    r"|initializer_range|.*dropout.*|.*pdrop|max_position_embeddings|pretraining_tp|output_.*|return_dict|router_aux_loss_coef"
    r"|auto_map|task_specific_params|id2label|label2id|tokenizer_class|unsloth.*"
)


def check_compatible(
    checkpoints: Sequence[Checkpoint], vocabulary: str = "exact", base: Checkpoint | None = None
) -> None:
    """Check that the checkpoints can be merged: fine-tunes of one model, of which `base` is an earlier state.

    vocabulary: "match" lets the number of tokens differ, "exact" does not.
    Raises BadInput naming the first difference in architecture, tensor names, vocabulary, shapes, or in a key of
    config.json that changes the computation; also where tensors that are not BF16, F16 or F32 (they are copied, not
    merged) differ. The base may compute otherwise (the longer contexts of its fine-tunes have brought another
    rope_theta, for example): it is never run.
    """
    for other in checkpoints[1:]:
        _check_weights(checkpoints[0], other, vocabulary)
        ours, theirs = (_computation(checkpoint.config) for checkpoint in (checkpoints[0], other))
        if vocabulary == "match":
            ours = {key: value for key, value in ours.items() if key.rpartition(".")[2] != "vocab_size"}
        _check_keys(checkpoints[0], other, ours, theirs)
    if base is not None and checkpoints:
        _check_weights(checkpoints[0], base, vocabulary)


def _check_weights(first: Checkpoint, other: Checkpoint, vocabulary: str) -> None:
    _check_keys(first, other, _architecture(first.config), _architecture(other.config))
    _check_tensors(first, other, vocabulary)
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
