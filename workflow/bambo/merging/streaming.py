"""Tensors as a stream of chunks, so that models of any size pass through a few megabytes of memory."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

# The floating types that are merged, by safetensors' names.
FLOATS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
# Large enough for the cost of a call to vanish, small enough for its float32 copies to stay in the cache.
CHUNK_BYTES = 1 << 20

# Chunks are views of read-only memory maps. Nothing writes to them; torch warns of such a buffer once a process.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.frombuffer(bytes(1), dtype=torch.uint8)


def chunks(
    views: Sequence[memoryview], dtype: str, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[list[torch.Tensor]]:
    """Walk along equally long tensors (one a source, as bytes): a flat piece of each at a time."""
    for start in range(0, len(views[0]), chunk_bytes):
        yield [torch.frombuffer(view[start : start + chunk_bytes], dtype=FLOATS[dtype]) for view in views]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch itself on one thread: the parallel work goes over tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
