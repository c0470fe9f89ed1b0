"""Part of a benchmark's questions: the first ones, or a share of each value of a column."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadInput
from .data import record_name


def keep(task: Any, limit: int | None, stratify: str | None, place: str) -> None:
    """Leave a task of the harness only the questions that are to be asked; BadInput, with the key `place`, where
    they have no column `stratify`.
    """
    docs = task.eval_docs
    if limit is None or limit >= len(docs):
        return
    if stratify is None:
        chosen = docs.select(range(limit))
    elif stratify not in docs.column_names:
        found = ", ".join(map(repr, docs.column_names))
        raise BadInput(
            f"{place}.stratify: the questions have no column {stratify!r}, found {found}; correct it"
        )
    else:
        chosen = docs.select(stratified(list(docs), stratify, limit))
    # Both, since the harness takes whichever the task has.
    task.test_docs = task.validation_docs = lambda: chosen


def stratified(rows: Sequence[Mapping[str, Any]], column: str, size: int) -> list[int]:
    """Places of `size` rows, in order, of which each value of `column` has its share.

    Shares are rounded by the largest remainder. Within a value the rows with the smallest hashes are taken, of their
    id or else of all that they hold: an even draw, the same for every candidate and machine.
    """
    strata: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        strata.setdefault(str(row.get(column)), []).append(place)
    quotas = {value: divmod(len(places) * size, len(rows)) for value, places in strata.items()}
    sizes = {value: whole for value, (whole, _) in quotas.items()}
    left = size - sum(sizes.values())
    for value in sorted(strata, key=lambda value: (-quotas[value][1], value))[:left]:
        sizes[value] += 1
    chosen = []
    for value, places in strata.items():
        chosen += sorted(places, key=lambda place: _hash(rows[place]))[: sizes[value]]
    return sorted(chosen)


def _hash(row: Mapping[str, Any]) -> bytes:
    name = record_name(row) or json.dumps(row, sort_keys=True, default=str)
    return hashlib.sha256(name.encode()).digest()
