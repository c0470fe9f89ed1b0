"""Tensors of models as flat elements that are read piece by piece, whatever they are stored as."""

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch

# The floating types that are merged, by safetensors' names.
FLOATS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
# Elements of a low-rank change that are computed at a time.
PRODUCT = 1 << 16

# Pieces are views of read-only memory maps. Nothing writes to them; torch warns of such a buffer once a process.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.frombuffer(bytes(1), dtype=torch.uint8)


class Tensor(Protocol):
    """A floating tensor of a model.

    stored: its bytes, where they lie in a file just as the tensor is (little-endian, in `dtype`).
    """

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def stored(self) -> memoryview | None: ...

    def piece(self, start: int, stop: int) -> torch.Tensor:
        """Elements start to stop [stop - start], in `dtype`; not to be written to."""
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a file."""

    stored: memoryview
    dtype: torch.dtype

    def piece(self, start: int, stop: int) -> torch.Tensor:
        size = self.dtype.itemsize
        return torch.frombuffer(self.stored[start * size : stop * size], dtype=self.dtype)


@dataclass(frozen=True)
class Adapted:
    """A matrix [m, n] of a model and its change by an adapter: weight + scale * left [m, r] @ right [r, n]."""

    weight: Tensor
    left: torch.Tensor
    right: torch.Tensor
    scale: float
    stored: None = None
    dtype: torch.dtype = torch.float32

    def piece(self, start: int, stop: int) -> torch.Tensor:
        width = self.right.shape[1]
        # Blocks of rows that do not depend on the piece: products of other shapes may be rounded otherwise.
        rows = max(1, PRODUCT // width)
        first, last = start // width // rows, -(-stop // width // rows)
        right = self.right.float()
        change = torch.cat(
            [
                (self.left[block * rows : (block + 1) * rows].float() @ right).flatten()
                for block in range(first, last)
            ]
        )
        offset = start - first * rows * width
        return change[offset : offset + stop - start].mul_(self.scale).add_(self.weight.piece(start, stop))


@dataclass(frozen=True)
class Padded:
    """The first `size` elements of one tensor, and behind them those of another one."""

    tensor: Tensor
    size: int
    padding: Tensor
    stored: None = None
    dtype: torch.dtype = torch.float32

    def piece(self, start: int, stop: int) -> torch.Tensor:
        parts = []
        if start < self.size:
            parts.append(self.tensor.piece(start, min(stop, self.size)))
        if stop > self.size:
            parts.append(self.padding.piece(max(start, self.size), stop))
        return torch.cat([part.float() for part in parts])
