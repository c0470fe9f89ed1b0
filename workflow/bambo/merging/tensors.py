"""Tensors of models as flat elements that are read piece by piece, whatever they are stored as."""

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch

# The floating types that are merged, by safetensors' names.
FLOATS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}

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
