"""Part of a benchmark's questions: the first ones, or a share of each value of a column; and which are asked first."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from ..errors import BadInput
from .data import record_name

NO_COLUMN = ""  # of which all rows have the same value


def keep(
    task: Any,
    limit: int | None,
    stratify: str | None,
    place: str,
    first_share: float | None = None,
    first_only: bool = False,
) -> int:
    """Leave a task of the harness only the questions that are to be asked, those of the first stage first.

    first_share: share of them that is asked first, an even draw within each value of `stratify`; first_only leaves no
    others. Returns how many are asked first, all where there are no stages. A question has the same place in both
    stages, so that its answer's seed is the same. BadInput, with the key `place`, where they have no column `stratify`.
    """
    docs = task.eval_docs
    if stratify is not None and stratify not in docs.column_names:
        found = ", ".join(map(repr, docs.column_names))
        raise BadInput(
            f"{place}.stratify: the questions have no column {stratify!r}, found {found}; correct it"
        )
    order = list(range(len(docs)))
    if limit is not None and limit < len(docs):
        order = order[:limit] if stratify is None else stratified(list(docs), stratify, limit)
    first = len(order)
    if first_share is not None:
        first = ceil(first_share * len(order))
        rows = [docs[place] for place in order]
        early = stratified(rows, stratify or NO_COLUMN, first)
        late = [] if first_only else sorted(set(range(len(order))) - set(early))
        order = [order[place] for place in [*early, *late]]
    if order != list(range(len(docs))):
        chosen = docs.select(order)
        # Both, since the harness takes whichever the task has.
        task.test_docs = task.validation_docs = lambda: chosen
    return first


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
