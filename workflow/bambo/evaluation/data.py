"""Benchmark data: csv, json, jsonl or parquet, a file or a folder of them, as lists of rows."""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BadInput
from ..files import atomic, file_hash, read_json

READERS = ("csv", "json", "jsonl", "parquet")
RECORD_COLUMNS = ("Record ID", "id")  # of GPQA and of most others: the benchmark's own names of its questions
EXAMPLES = "examples"  # name, without its ending, of a folder's file of examples for few-shot prompts


class Data(NamedTuple):
    """Rows, each column -> value."""

    questions: list[dict]
    examples: list[dict]  # for few-shot prompts; empty where they come from the questions


def read_data(path: Path, place: str) -> Data:
    """A file of questions; or all files of a folder in the order of their names, of which one may hold `examples`.

    Raises BadInput, which begins with the config key `place`, where there is nothing to read, no such format, no row,
    something that is not a row, or a folder of several formats.
    """
    if not path.is_dir():
        return Data(read_rows(path, place), [])
    files = _files(path)
    kinds = {file.suffix.lower() for file in files}
    if len(kinds) != 1:
        found = f"files of {len(kinds)} formats ({', '.join(sorted(kinds))})" if kinds else "no file"
        raise BadInput(f"{place}: {path} holds {found}, expected {', '.join(READERS)} files of one format")
    questions = [row for file in files if file.stem != EXAMPLES for row in read_rows(file, place)]
    if not questions:
        raise BadInput(f"{place}: {path} holds examples alone; add the file of questions")
    return Data(questions, [row for file in files if file.stem == EXAMPLES for row in read_rows(file, place)])


def read_rows(path: Path, place: str) -> list[dict]:
    """All rows of one file; BadInput as `read_data`."""
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


def data_hash(path: Path) -> str:
    """sha256 of a file, or of a folder's files and their names; OSError where it cannot be read."""
    if not path.is_dir():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def write_data(folder: Path, data: Data) -> None:
    """Write a folder for `read_data`, in JSON lines: the same rows make the same bytes everywhere."""
    with atomic(folder) as temporary:
        temporary.mkdir()
        for name, rows in (("questions", data.questions), (EXAMPLES, data.examples)):
            if rows:
                lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
                (temporary / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def read_hub_record(path: Path) -> dict[str, Any]:
    """benchmarks/<name>.json; BadInput where it is damaged, or not about the rows in benchmarks/<name>/."""
    record, rows = read_json(path), path.with_suffix("")
    if not rows.is_dir() or not isinstance(record, dict) or record.get("data_hash") != data_hash(rows):
        raise BadInput(f"{path}: not about the questions in {rows}, which were changed; download them again")
    return record


def record_name(row: Mapping[str, Any]) -> str | None:
    """What the benchmark calls a question, None where it has no names for them."""
    return next((str(row[column]) for column in RECORD_COLUMNS if column in row), None)


def check_records(rows: Sequence[Mapping[str, Any]], place: str) -> None:
    """BadInput, beginning with `place`, where two rows are the same record."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        name = record_name(row)
        if name in seen:
            raise BadInput(
                f"{place} has the id {name!r} in rows {seen[name]} and {number}; remove one or give it another id"
            )
        if name is not None:
            seen[name] = number


def check_columns(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], place: str) -> None:
    """BadInput, beginning with `place`, where a row lacks a value in one of `columns`."""
    for column in sorted(columns):
        missing = [number for number, row in enumerate(rows, 1) if row.get(column) in (None, "")]
        if len(missing) == len(rows):
            found = ", ".join(repr(name) for name in rows[0])
            raise BadInput(f"{place} has no column {column!r}, found {found}; rename or add the column")
        if missing:
            raise BadInput(f"{place} has no value in column {column!r} of row {missing[0]}; add it")
