"""The streaming writer: sources are memory-mapped, chunks are merged and written to their final place.

Memory is a few megabytes a thread, whatever the size of the models: pages of the mapped files belong to the
system's cache, and the output's layout is known from the headers before the first byte is merged.
"""

import errno
import math
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import (
    SINGLE_FILE,
    Checkpoint,
    check_compatible,
    companion_files,
    groups,
    map_tensors,
    open_checkpoint,
    sample,
)
from ..errors import BadInput
from ..files import atomic
from ..headers import encode_header
from ..recipe import check_recipe
from . import linear
from .streaming import CHUNK_BYTES, FLOATS, chunks, one_thread

METHODS = {"linear": linear}


@dataclass(frozen=True)
class Sources:
    """The sources of a recipe, mapped into memory; all recipes of a run can be merged from them."""

    checkpoints: list[Checkpoint]
    views: list[dict[str, memoryview]]  # per source: tensor -> bytes
    groups: dict[str, list[str]]  # tensor group -> tensors


def open_sources(recipe: Mapping[str, Any]) -> Sources:
    """BadInput where the recipe does not fit its sources, they changed since it was made, or do not fit each other."""
    check_recipe(recipe, "recipe")
    if recipe["method"] not in METHODS:
        raise BadInput(f"recipe: method is {recipe['method']}, expected one of {', '.join(METHODS)}")
    checkpoints = [open_checkpoint(source["path"]) for source in recipe["sources"].values()]
    check_compatible(checkpoints)
    members = groups(checkpoints[-1])
    if differing := sorted(members.keys() ^ recipe["weights"].keys()):
        raise BadInput(
            f"recipe: weights of {', '.join(differing)} are missing or of no tensor; expected {', '.join(members)}"
        )
    for (name, source), checkpoint in zip(recipe["sources"].items(), checkpoints, strict=True):
        if sample(checkpoint) != source["sample"]:
            raise BadInput(
                f"source {name} ({checkpoint.path}): changed since the recipe was made; "
                "restore its files, or start a run with another name"
            )
    return Sources(checkpoints, [map_tensors(checkpoint) for checkpoint in checkpoints], members)


def merge(recipe: Mapping[str, Any], output: Path, threads: int = 2, chunk_bytes: int = CHUNK_BYTES) -> None:
    """Make the model that a recipe describes: a Hugging Face folder, whole or absent; an old one is replaced.

    Config, tokenizer, chat template and generation config are copied verbatim from the source that
    `files_from` names; so are the bytes of tensors in groups where one source has all the weight.
    Raises BadInput, before anything is written, as `open_sources` does; and for a disk that is full or not writable.
    """
    output = Path(output)
    if threads < 1:
        raise BadInput(f"threads: {threads}, expected 1 or more; raise it")
    sources = open_sources(recipe)
    files_from = recipe["sources"][recipe["files_from"]]["path"]
    with _write_errors(output), atomic(output) as folder:
        folder.mkdir()
        for file in companion_files(Path(files_from)):
            target = folder / file.relative_to(files_from)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
        _write_weights(recipe, sources, folder / SINGLE_FILE, threads, chunk_bytes)


def merged_tensors(
    recipe: Mapping[str, Any], sources: Sources, threads: int = 2, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the model that a recipe describes, one after the other, with the bytes that `merge` would write.

    No more than `threads` + 1 are held at a time; those of one source alone are read-only views of its file. BadInput
    for a tensor of another type than `FLOATS`.
    """
    weights = {name: recipe["weights"][group] for group, names in sources.groups.items() for name in names}
    method = METHODS[recipe["method"]]

    def made(name: str) -> torch.Tensor:
        info, parts = sources.checkpoints[-1].tensors[name], [view[name] for view in sources.views]
        if info.dtype not in FLOATS:
            raise BadInput(
                f"tensor {name}: its type is {info.dtype}, expected one of {', '.join(FLOATS)} to merge into a loaded "
                "model; set evaluation.candidates_per_job: 1 and merge.materialize: true"
            )
        source = method.verbatim(weights[name])
        if source is not None:
            return torch.frombuffer(parts[source], dtype=FLOATS[info.dtype]).reshape(info.shape)
        out = torch.empty(math.prod(info.shape), dtype=FLOATS[info.dtype])
        buffer, place = torch.empty(3, chunk_bytes // 2), 0
        for pieces in chunks(parts, info.dtype, chunk_bytes):
            count = pieces[0].numel()
            method.combine(pieces, weights[name], buffer[:, :count], out[place : place + count])
            place += count
        return out.reshape(info.shape)

    with one_thread(), ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[str, Future[torch.Tensor]]] = deque()
        for name in sources.checkpoints[-1].tensors:
            waiting.append((name, pool.submit(made, name)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _write_weights(
    recipe: Mapping[str, Any], sources: Sources, file: Path, threads: int, chunk_bytes: int
) -> None:
    tensors, views = sources.checkpoints[-1].tensors, sources.views
    weights = {name: recipe["weights"][group] for group, names in sources.groups.items() for name in names}
    method = METHODS[recipe["method"]]
    header, offsets = encode_header(tensors)

    # Largest first, so that no thread is left alone with an embedding matrix at the end.
    pending = iter(sorted(tensors, key=lambda name: -tensors[name].bytes))

    def work() -> None:
        """Write tensor after tensor until none is left; one such worker a thread."""
        buffer = torch.empty(3, chunk_bytes // 2)
        merged = torch.empty(chunk_bytes, dtype=torch.uint8)
        for name in pending:
            parts, offset, dtype = [view[name] for view in views], offsets[name], tensors[name].dtype
            source = method.verbatim(weights[name]) if dtype in FLOATS else -1
            if source is not None:
                _write(descriptor, parts[source], offset)
                continue
            for pieces in chunks(parts, dtype, chunk_bytes):
                count, size = pieces[0].numel(), pieces[0].nbytes
                method.combine(pieces, weights[name], buffer[:, :count], merged[:size].view(FLOATS[dtype]))
                _write(descriptor, merged[:size].numpy().data, offset)
                offset += size

    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, len(header) + sum(tensor.bytes for tensor in tensors.values()))
        _write(descriptor, memoryview(header), 0)
        with one_thread(), ThreadPoolExecutor(threads) as pool:
            for worker in [pool.submit(work) for _ in range(threads)]:
                worker.result()
        os.fsync(descriptor)  # the file is renamed next, and its name must not outlive its contents
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


@contextmanager
def _write_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise BadInput(
            f"{output}: {error.strerror}; free space or mend the rights there, or write elsewhere"
        ) from None
