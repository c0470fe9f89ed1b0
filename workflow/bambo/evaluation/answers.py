"""An append-only file of finished answers, so that a killed evaluation goes on where it stopped.

One line is one chunk of prompts generated together, `{"key": ..., "outputs": [[tokens, finish reason], ...], ...}`.
The chunk is the unit because numerics may depend on what shares a batch: redoing whole chunks makes a resumed
evaluation equal to an undisturbed one, token for token.
"""

import json
import os
from pathlib import Path

from ..errors import BadInput


def read_answers(path: Path) -> dict[str, dict]:
    """Finished chunks by key, {} if there is no file; a last line torn by a kill is cut off the file.

    Raises BadInput on any other damage.
    """
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    try:
        chunks = [json.loads(line) for line in data[:whole].splitlines()]
    except json.JSONDecodeError:
        raise BadInput(f"{path}: damaged, expected one JSON object a line; delete the file") from None
    return {chunk["key"]: chunk for chunk in chunks}


def append_answers(path: Path, chunk: dict) -> None:
    """Add one chunk and return once it is on the disk."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(chunk) + "\n")
        file.flush()
        os.fsync(file.fileno())
