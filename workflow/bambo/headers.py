"""The safetensors format: 8 bytes little-endian length, a JSON header so long, then the tensors' bytes.

The header maps each name to dtype, shape and byte offsets behind the header.
https://github.com/huggingface/safetensors#format
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import BadInput

# The types that are merged; tensors of others are copied.
FLOATS = ("BF16", "F16", "F32")
# The key of a file's metadata under which a merged model names its recipe.
MARK = "bambo"


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: bytes `start` to `end` of `file`; `dtype` in safetensors' names (BF16, I64)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.end - self.start


def read_header(file: Path) -> dict[str, TensorInfo]:
    """The tensors of one file in the order of their bytes.

    Raises BadInput for a truncated file, a damaged header, or tensors that do not fill the file without gaps.
    """
    size, text = file.stat().st_size, _header(file)
    length = len(text)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        tensors = {
            name: TensorInfo(
                file, entry["dtype"], tuple(entry["shape"]), 8 + length + start, 8 + length + end
            )
            for name, entry in header.items()
            for start, end in [entry["data_offsets"]]
        }
        tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
        bits = {name: 8 * t.bytes - t.parameters * _bits(t.dtype) for name, t in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{file}: corrupt safetensors header ({error!r}); download it again") from None
    position = 8 + length
    for name, tensor in tensors.items():
        if tensor.start != position or bits[name] != 0:
            raise BadInput(
                f"{file}: corrupt safetensors header, tensor {name} does not fit its bytes; download it again"
            )
        position = tensor.end
    if position != size:
        raise BadInput(
            f"{file}: header says {position} bytes, file has {size}; "
            f"{'truncated' if size < position else 'damaged'}: download it again"
        )
    return tensors


def read_mark(file: Path) -> str | None:
    """The recipe that a file was merged from, by its id; None of other files. BadInput for a damaged header."""
    try:
        return json.loads(_header(file)).get("__metadata__", {}).get(MARK)
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{file}: corrupt safetensors header ({error!r}); download it again") from None


def _header(file: Path) -> bytes:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > size - 8:
            raise BadInput(
                f"{file}: {size} bytes hold no whole safetensors header; truncated, or not the file itself "
                "(a Git LFS pointer?): download it again"
            )
        return stream.read(length)


def encode_header(
    tensors: Mapping[str, TensorInfo], recipe: str | None = None
) -> tuple[bytes, dict[str, int]]:
    """The header of a new file that holds the given tensors, and where in that file each one's bytes start.

    Order as given, but larger elements first, so that each tensor is aligned to its element size. recipe: the id of
    the recipe that the file is merged from.
    """
    order = sorted(tensors, key=lambda name: -_bits(tensors[name].dtype))
    # Some loaders ask for "format".
    metadata = {"format": "pt", **({MARK: recipe} if recipe else {})}
    header: dict[str, object] = {"__metadata__": metadata}
    offsets, position = {}, 0
    for name in order:
        tensor = tensors[name]
        end = position + tensor.bytes
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        offsets[name], position = position, end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, {name: 8 + len(text) + at for name, at in offsets.items()}


def _bits(dtype: str) -> int:
    """Bits of one element: the first number in the dtype's name (BF16, F8_E4M3, I64); a BOOL takes a byte."""
    number = re.search(r"\d+", dtype.replace("BOOL", "U8"))
    if number is None:
        raise ValueError(f"unknown dtype {dtype}")
    return int(number.group())
