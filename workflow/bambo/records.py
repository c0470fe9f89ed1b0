"""Records: JSON files whose damage is seen before they are used (scores, proposals).

A record begins with its format and version and ends with the sha256 of all before it; read and written again it gives
the same bytes, so that a truncated file, a flipped byte and a file of another version are all told from a whole one.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import BadInput
from .files import content_hash, write_text

# Raised where a reader of the older version would misread the newer one.
VERSIONS = {"scores": 1, "proposal": 2, "promotion": 1, "statistics": 1}


class Damaged(BadInput):
    """A record that is not what was written; made again, never used."""


def write_record(path: Path, kind: str, value: Mapping[str, Any]) -> None:
    """Write a record of `kind` (a key of VERSIONS); NaN and infinity are refused."""
    write_text(path, _text(kind, value))


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """What was written, without format and checksum; BadInput where there is no file, Damaged where it is not whole."""
    try:
        found = Path(path).read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    remedy = "`bambo check` on the run prints the command that repairs it"
    try:
        value = json.loads(found)
        version, _ = value.pop("format"), value.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(f"{path}: damaged, not a whole {kind} file; {remedy}") from None
    if version != _format(kind):
        raise Damaged(f"{path}: its format is {version!r}, expected {_format(kind)!r}; {remedy}")
    try:
        whole = _text(kind, value).encode() == found
    except ValueError:  # NaN or infinity, which was not written
        whole = False
    if not whole:
        raise Damaged(f"{path}: damaged, its contents do not match its checksum; {remedy}")
    return value


def is_made(path: Path, kind: str) -> bool:
    """Whether a record is there, whole; a damaged one is named on stderr, to be made anew from the same files."""
    if not Path(path).exists():
        return False
    try:
        read_record(path, kind)
    except Damaged as error:
        print(f"{error}; decided anew", file=sys.stderr, flush=True)
        return False
    return True


def _format(kind: str) -> str:
    return f"{kind}/{VERSIONS[kind]}"


def _text(kind: str, value: Mapping[str, Any]) -> str:
    body = {"format": _format(kind), **value}
    return json.dumps({**body, "checksum": content_hash(body)}, indent=1, allow_nan=False) + "\n"
