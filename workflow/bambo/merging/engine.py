"""The streaming writer: sources are memory-mapped, chunks are merged and written to their final place.

Memory is a few megabytes a thread, whatever the size of the models: pages of the mapped files belong to the
system's cache, and the output's layout is known from the headers before the first byte is merged.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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


def merge(recipe: Mapping[str, Any], output: Path, threads: int = 2, chunk_bytes: int = CHUNK_BYTES) -> None:
    """Make the model that a recipe describes: a Hugging Face folder, whole or absent; an old one is replaced.

    Config, tokenizer, chat template and generation config are copied verbatim from the source that
    `files_from` names; so are the bytes of tensors in groups where one source has all the weight.
    Raises BadInput, before anything is written, for a recipe that does not fit its sources, sources that
    changed since the recipe was made or do not fit each other; and for a disk that is full or not writable.
    """
    output = Path(output)
    if threads < 1:
        raise BadInput(f"threads: {threads}, expected 1 or more; raise it")
    check_recipe(recipe, "recipe")
    if recipe["method"] not in METHODS:
        raise BadInput(f"recipe: method is {recipe['method']}, expected one of {', '.join(METHODS)}")
    checkpoints = [open_checkpoint(source["path"]) for source in recipe["sources"].values()]
    _check_sources(recipe, checkpoints)
    files_from = recipe["sources"][recipe["files_from"]]["path"]
    with _write_errors(output), atomic(output) as folder:
        folder.mkdir()
        for file in companion_files(Path(files_from)):
            target = folder / file.relative_to(files_from)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
        _write_weights(recipe, checkpoints, folder / SINGLE_FILE, threads, chunk_bytes)


def _check_sources(recipe: Mapping[str, Any], checkpoints: Sequence[Checkpoint]) -> None:
    check_compatible(checkpoints)
    expected = groups(checkpoints[0]).keys()
    if differing := sorted(expected ^ recipe["weights"].keys()):
        raise BadInput(
            f"recipe: weights of {', '.join(differing)} are missing or of no tensor; "
            f"expected {', '.join(expected)}"
        )
    for (name, source), checkpoint in zip(recipe["sources"].items(), checkpoints, strict=True):
        if sample(checkpoint) != source["sample"]:
            raise BadInput(
                f"source {name} ({checkpoint.path}): changed since the recipe was made; "
                "restore its files, or start a run with another name"
            )


def _write_weights(
    recipe: Mapping[str, Any], checkpoints: Sequence[Checkpoint], file: Path, threads: int, chunk_bytes: int
) -> None:
    tensors = checkpoints[-1].tensors
    views = [map_tensors(checkpoint) for checkpoint in checkpoints]
    weights = {
        name: recipe["weights"][group] for group, names in groups(checkpoints[-1]).items() for name in names
    }
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
