"""Benchmark files: csv, json, jsonl or parquet, as a list of rows."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from ..errors import BadInput

READERS = ("csv", "json", "jsonl", "parquet")


def read_rows(path: Path, place: str) -> list[dict]:
    """All rows of a benchmark file as column -> value.

    Raises BadInput, which begins with the config key `place`, where there is no such file, no such format, no row,
    or something that is not a row.
    """
    kind = path.suffix.lstrip(".").lower()
    if kind not in READERS:
        raise BadInput(f"{place}: {path} ends in {path.suffix!r}, expected one of {', '.join(READERS)}")
    if not path.is_file():
        raise BadInput(f"{place}: no file {path}; correct the path")
    try:
        rows = _read(path, kind)
    except ValueError as error:  # of json, csv, unicode and arrow alike
        raise BadInput(f"{place}: {path} is not valid {kind} ({error}); mend the file") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{place}: {path} holds no rows of named columns; expected one row a question")
    if any(None in row for row in rows):
        raise BadInput(f"{place}: a row of {path} has more cells than the header; mend the file")
    return rows


def _read(path: Path, kind: str) -> list[dict]:
    if kind == "parquet":
        import pyarrow.parquet  # .2 CPU seconds, for this format only

        return pyarrow.parquet.read_table(path).to_pylist()
    with open(path, newline="", encoding="utf-8-sig") as file:
        if kind == "csv":
            return list(csv.DictReader(file))
        if kind == "jsonl":
            return [json.loads(line) for line in file if line.strip()]
        return json.load(file)


def check_columns(rows: list[dict], columns: Iterable[str], place: str) -> None:
    """BadInput, beginning with `place`, where a row lacks a value in one of `columns`."""
    for column in sorted(columns):
        missing = [number for number, row in enumerate(rows, 1) if row.get(column) in (None, "")]
        if len(missing) == len(rows):
            found = ", ".join(repr(name) for name in rows[0])
            raise BadInput(f"{place} has no column {column!r}, found {found}; rename or add the column")
        if missing:
            raise BadInput(f"{place} has no value in column {column!r} of row {missing[0]}; add it")
