"""LoRA adapters in peft's format: which tensors of a model they change, and how.

A changed matrix is W + scale * B A with A [r, in] and B [out, r]; scale is alpha / r (Hu et al., 2022), or
alpha / sqrt(r) where rank-stabilised (Kalajdzievski, 2023). Tensors can be replaced as a whole, too, W among them.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BadInput
from .files import read_json
from .headers import FLOATS, TensorInfo, read_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MERGE_IT = "merge it with peft's merge_and_unload, and give that folder as `model`"
# What peft puts before the names of the model's modules, and behind those of the modules that it changes.
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
# Options that make more of an adapter than the formula says, where they are set.
_UNSUPPORTED = (
    "use_dora",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)
# Initialisations that leave the model's own weights alone; under others the adapter is of another model.
_INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")


@dataclass(frozen=True)
class LowRank:
    """A change by scale * B A, transposed where the matrix is stored as [in, out]; `a` and `b` name its tensors."""

    a: str
    b: str
    scale: float
    transposed: bool


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder: its tensors, and by the model's tensors what becomes of them.

    base: the model that it was trained on, a hub id or a folder of that day, if it says.
    """

    path: Path
    base: str | None
    tensors: dict[str, TensorInfo]
    low_rank: dict[str, LowRank]
    replaced: dict[str, str]  # the model's tensor -> the adapter's

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path / WEIGHTS,)


def open_adapter(path: Path, model: Mapping[str, TensorInfo]) -> Adapter:
    """Read the header and the config of an adapter's folder for a model of the given tensors.

    Raises BadInput for a missing folder or file, weights in another format, what is not supported (by its name),
    and where names or shapes do not fit the model.
    """
    if not path.is_dir():
        raise BadInput(f"{path}: no such folder, expected a LoRA adapter's with {CONFIG}; correct the path")
    config = read_json(path / CONFIG)
    _check_config(path / CONFIG, config)
    file = path / WEIGHTS
    if not file.exists():
        raise BadInput(
            f"{file}: no such file; save the adapter with peft's save_pretrained, which writes it "
            "(adapter_model.bin, which can hold code, is not read)"
        )
    tensors = read_header(file)
    low_rank, replaced = {}, {}
    for name, info in tensors.items():
        module = name.removeprefix(_PREFIX)
        if info.dtype not in FLOATS:
            raise BadInput(
                f"{file}: tensor {name} is {info.dtype}, expected {', '.join(FLOATS)}; save it in one"
            )
        if module.endswith(_A):
            a, module = name, module.removesuffix(_A)
            b = name.removesuffix(_A) + _B
            if b not in tensors:
                raise BadInput(f"{file}: no tensor {b}, expected it beside {a}; save the adapter again")
            target = _target(file, f"{module}.weight", model, config)
            outer, inner = _product(file, tensors, a, b)
            transposed = bool(config.get("fan_in_fan_out"))
            _check_shape(file, a, (inner, outer) if transposed else (outer, inner), target, model[target])
            low_rank[target] = LowRank(a, b, _scale(path / CONFIG, config, module, info.shape[0]), transposed)
        elif module.endswith(_B):
            a = name.removesuffix(_B) + _A
            if a not in tensors:
                raise BadInput(f"{file}: no tensor {a}, expected it beside {name}; save the adapter again")
        elif ".lora_" in module:
            raise BadInput(f"{file}: tensor {name} is of no kind that is supported; {MERGE_IT}")
        else:
            # Of an embedding or head that is changed, peft keeps the matrix itself, too.
            target = _target(file, module.replace(".base_layer.", "."), model, config)
            _check_shape(file, name, info.shape, target, model[target])
            replaced[target] = name
    return Adapter(path, config.get("base_model_name_or_path"), tensors, low_rank, replaced)


def _check_config(file: Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else config
        raise BadInput(f"{file}: peft_type is {found}, expected LORA; {MERGE_IT}")
    found = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append("bias")
    if config.get("init_lora_weights") not in _INITIALISATIONS:
        found.append("init_lora_weights")
    if found:
        raise BadInput(f"{file}: {found[0]} is {config[found[0]]}, which is not supported; {MERGE_IT}")


def _target(file: Path, name: str, model: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> str:
    """The model's tensor; a model that was saved without its head has no prefix such as `transformer.`."""
    for candidate in (name, name.partition(".")[2]):
        if candidate in model:
            return candidate
    raise BadInput(
        f"{file}: changes {name}, which the model does not have; give the model that the adapter was trained on "
        f"({config.get('base_model_name_or_path')})"
    )


def _product(file: Path, tensors: Mapping[str, TensorInfo], a: str, b: str) -> tuple[int, int]:
    left, right = tensors[b].shape, tensors[a].shape
    if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
        raise BadInput(
            f"{file}: {a} has shape {list(right)} and {b} {list(left)}, expected [r, in] and [out, r]; save it again"
        )
    return left[0], right[1]


def _check_shape(file: Path, name: str, shape: tuple[int, ...], target: str, tensor: TensorInfo) -> None:
    if tensor.shape != shape or tensor.dtype not in FLOATS:
        raise BadInput(
            f"{file}: {name} changes a tensor of shape {list(shape)} in {', '.join(FLOATS)}, but {target} of the "
            f"model has {list(tensor.shape)} in {tensor.dtype}; give the model that the adapter was trained on, "
            "unquantised"
        )


def _scale(file: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    """Alpha by the first pattern that fits the module's name, as peft reads them; the rank is that of the tensors."""
    patterns = config.get("alpha_pattern") or {}
    matching = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    alpha = next(matching, config.get("lora_alpha"))
    if not isinstance(alpha, int | float):
        raise BadInput(f"{file}: alpha of {module} is {alpha}, expected a number; restore the file")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
