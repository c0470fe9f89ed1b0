"""Files that are either whole or absent: written under a temporary name, then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadInput


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` when the block ends well.

    What was made under the temporary name (a file or a folder) is removed when the block raises, so `path` is never
    half written. An existing `path` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not a fixed name: two processes that write the same file must not write into each other's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_file():
            _sync(temporary)  # else a power cut may keep the new name and lose the contents
        elif path.exists():
            os.replace(path, old)  # a folder replaces no folder, and half a one must not stay under the name
        os.replace(temporary, path)
    finally:
        _remove(temporary)
        _remove(old)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mark(path: Path) -> None:
    """Make the empty file `<name>-<settings>`, and remove those of other settings beside it.

    What was made with other settings is not what is there now, though Snakemake would take it for that.
    """
    for other in path.parent.glob(f"{path.name.rpartition('-')[0]}-*"):
        other.unlink()
    path.touch()


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused: no number stands for a failure."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; BadInput names the file when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except ValueError as error:  # of JSON, and of bytes that are no text
        raise BadInput(f"{path}: not valid JSON ({error}); restore the file") from None


def content_hash(value: Any) -> str:
    """sha256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
