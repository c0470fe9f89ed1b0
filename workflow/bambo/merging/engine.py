"""The streaming writer: sources are memory-mapped, pieces are merged and written to their final place.

Memory is a few megabytes a thread, whatever the size of the models: pages of the mapped files belong to the
system's cache, and the output's layout is known from the headers before the first byte is merged.
"""

import errno
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import SHARD_INDEX, SINGLE_FILE, check_replaceable, companion_files
from ..errors import BadInput
from ..files import atomic, write_json
from ..headers import TensorInfo, encode_header
from .parts import Part, Statistics, parts_of
from .sources import Sources, open_sources
from .statistics import gathered, one_thread
from .tensors import FLOATS

# Large enough for the cost of a call to vanish, small enough for its float32 copies to stay in the cache.
CHUNK_BYTES = 1 << 20


def merge(
    recipe: Mapping[str, Any],
    output: Path,
    threads: int = 2,
    chunk_bytes: int = CHUNK_BYTES,
    *,
    device: str = "cpu",
    cache: Path | None = None,
    max_shard_size: int | str | None = None,
) -> None:
    """Make the model that a recipe describes: a Hugging Face folder, whole or absent; an older merge is replaced.

    Config, tokenizer, chat template and generation config are copied verbatim from the source that
    `files_from` names; so are the bytes of tensors that are one source's alone.
    device: where the arithmetic is done; cache: a folder where statistics of the sources are kept (see `gathered`);
    max_shard_size: of a weight file, in bytes or as transformers has it ("5GB"); None for a single file.
    Raises BadInput, before anything is written, as `open_sources` does, and where something else is at the place; and
    for a disk that is full or not writable.
    """
    output = Path(output)
    if threads < 1:
        raise BadInput(f"threads: {threads}, expected 1 or more; raise it")
    sources = open_sources(recipe)
    check_replaceable(output)
    files_from = recipe["sources"][recipe["files_from"]]["path"]
    statistics = gathered(recipe, sources, threads, cache)
    with _write_errors(output), atomic(output) as folder:
        folder.mkdir()
        for file in companion_files(Path(files_from)):
            target = folder / file.relative_to(files_from)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
        parts = parts_of(recipe, sources)
        for file, tensors in _files(sources.template.tensors, folder, max_shard_size).items():
            _write_weights(
                recipe["id"], parts, statistics, sources, tensors, file, threads, chunk_bytes, device
            )


def merged_tensors(
    recipe: Mapping[str, Any],
    sources: Sources,
    threads: int = 2,
    chunk_bytes: int = CHUNK_BYTES,
    *,
    device: str = "cpu",
    cache: Path | None = None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the model that a recipe describes, one after the other, with the bytes that `merge` would write.

    No more than `threads` + 1 are held at a time; those of one source alone are read-only views of its file. BadInput
    for a tensor of another type than `FLOATS`.
    """
    parts, infos = parts_of(recipe, sources), sources.template.tensors
    for name in sources.copied:
        raise BadInput(
            f"tensor {name}: its type is {infos[name].dtype}, expected one of {', '.join(FLOATS)} to merge into a "
            "loaded model; set evaluation.candidates_per_job: 1 and merge.materialize: true"
        )
    statistics = gathered(recipe, sources, threads, cache)

    def made(name: str) -> torch.Tensor:
        part, dtype = parts[name], FLOATS[infos[name].dtype]
        stored = _stored(part, infos[name])
        if stored is not None:
            return torch.frombuffer(stored, dtype=dtype).reshape(part.shape)
        out = torch.empty(part.count, dtype=dtype)
        desk = Desk(device)
        for start, stop in part.pieces(chunk_bytes // dtype.itemsize):
            out[start:stop] = desk.merged(part, start, stop, statistics.get(name, {}), dtype)
        return out.reshape(part.shape)

    with one_thread(), ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[str, Future[torch.Tensor]]] = deque()
        for name in parts:
            waiting.append((name, pool.submit(made, name)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _files(
    tensors: Mapping[str, TensorInfo], folder: Path, max_shard_size: int | str | None
) -> dict[Path, dict[str, TensorInfo]]:
    """Which tensors go into which file, as transformers spreads them; the index of several files is written."""
    if max_shard_size is None:
        return {folder / SINGLE_FILE: dict(tensors)}
    from huggingface_hub import split_state_dict_into_shards_factory

    split = split_state_dict_into_shards_factory(
        dict(tensors),
        get_storage_size=lambda info: info.bytes,
        filename_pattern=SINGLE_FILE.replace(".", "{suffix}."),
        max_shard_size=max_shard_size,
    )
    if split.is_sharded:
        parameters = sum(info.parameters for info in tensors.values())
        metadata = {"total_parameters": parameters, **split.metadata}
        write_json(folder / SHARD_INDEX, {"metadata": metadata, "weight_map": split.tensor_to_filename})
    return {
        folder / file: {name: tensors[name] for name in names}
        for file, names in split.filename_to_tensors.items()
    }


def _write_weights(
    recipe: str,
    parts: Mapping[str, Part],
    statistics: Mapping[str, Statistics],
    sources: Sources,
    tensors: Mapping[str, TensorInfo],
    file: Path,
    threads: int,
    chunk_bytes: int,
    device: str,
) -> None:
    header, offsets = encode_header(tensors, recipe)

    # Largest first, so that no thread is left alone with an embedding matrix at the end.
    pending = iter(sorted(tensors, key=lambda name: -tensors[name].bytes))

    def work() -> None:
        """Write tensor after tensor until none is left; one such worker a thread."""
        desk = Desk(device)
        for name in pending:
            offset = offsets[name]
            stored = sources.copied[name] if name in sources.copied else _stored(parts[name], tensors[name])
            if stored is not None:
                # Not all at once: the kernel takes three times as long where it has to map pages while it writes.
                for start in range(0, len(stored), chunk_bytes):
                    _write(descriptor, desk.copied(stored[start : start + chunk_bytes]), offset + start)
                continue
            dtype = FLOATS[tensors[name].dtype]
            for start, stop in parts[name].pieces(max(1, chunk_bytes // dtype.itemsize)):
                merged = desk.merged(parts[name], start, stop, statistics.get(name, {}), dtype)
                _write(descriptor, merged.view(torch.uint8).numpy().data, offset + start * dtype.itemsize)

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


def _stored(part: Part, info: TensorInfo) -> memoryview | None:
    """The bytes of the merged tensor, where they lie in a source's file."""
    same = part.same_as
    return same.stored if same is not None and same.dtype == FLOATS[info.dtype] else None


class Desk:
    """The work space of one thread; fresh memory for every piece would cost more than the arithmetic."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.work = torch.empty(0, device=device)
        self.out = torch.empty(0, dtype=torch.uint8, device=device)

    def copied(self, data: memoryview) -> memoryview:
        """The bytes, in memory of this process, until the next call."""
        out = self._out(len(data))
        out.copy_(torch.frombuffer(data, dtype=torch.uint8))
        return out.cpu().numpy().data

    def merged(
        self, part: Part, start: int, stop: int, statistics: Statistics, dtype: torch.dtype
    ) -> torch.Tensor:
        """Elements start to stop of the merged tensor, in the processor's memory, until the next call."""
        count = stop - start
        if self.work.numel() < part.buffers * count:
            self.work = torch.empty(part.buffers * count, device=self.device)
        out = self._out(count * dtype.itemsize).view(dtype)
        same = part.same_as
        if same is not None:  # of another type than the result
            out.copy_(same.piece(start, stop))
        else:
            work = self.work[: part.buffers * count].view(part.buffers, count)
            part.merge(start, stop, statistics, work, out)
        return out.cpu()

    def _out(self, size: int) -> torch.Tensor:
        if self.out.numel() < size:
            self.out = torch.empty(size, dtype=torch.uint8, device=self.device)
        return self.out[:size]


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
