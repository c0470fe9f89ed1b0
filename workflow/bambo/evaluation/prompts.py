"""Prompts over which the sources' hidden states are compared: their file, and that none is a scored question."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .data import READERS, read_data, read_rows

COLUMN = "prompt"
KEY = "importance.prompts"
# From so many characters on, a text that another one holds is the same question; shorter ones may be parts of any.
LONG = 30


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: column `prompt`, or the lines of a .txt.

    BadInput, which begins with the config key: there is no such file, it holds none, or has no such column.
    """
    if path.suffix.lower() != ".txt":
        if path.suffix.lstrip(".").lower() not in READERS:
            formats = ", ".join(["txt", *READERS])
            raise BadInput(f"{KEY}: {path} ends in {path.suffix!r}, expected one of {formats}; rename it")
        rows = read_rows(path, KEY)
        if not any(COLUMN in row for row in rows):
            found = ", ".join(map(repr, rows[0]))
            raise BadInput(f"{KEY}: {path} has no column '{COLUMN}', found {found}; rename the column")
        prompts = [str(row.get(COLUMN) or "") for row in rows]
    else:
        try:
            prompts = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise BadInput(f"{KEY}: cannot read {path} ({error.strerror}); correct the path") from None
        except UnicodeDecodeError:
            raise BadInput(f"{KEY}: {path} is not text in UTF-8; mend the file") from None
    prompts = [prompt for prompt in prompts if prompt.strip()]
    if not prompts:
        raise BadInput(f"{KEY}: {path} holds no prompts; add some, a line or a row each")
    return prompts


def check_overlap(prompts: Sequence[str], questions: Iterable[tuple[str, Sequence[str]]], path: Path) -> None:
    """BadInput where a prompt is a scored question: a prior that was fitted to the test is none.

    questions: benchmark and texts of each question, as the models are asked it and as the data hold it. Case and white
    space do not count. Equal texts overlap, and of two long ones one that holds the other.
    """
    own = [plain(prompt) for prompt in prompts]
    equal = {text: place for place, text in reversed([*enumerate(own)])}
    long = [(place, text) for place, text in enumerate(own) if len(text) >= LONG]
    for benchmark, texts in questions:
        for text in filter(None, map(plain, texts)):
            place = equal.get(text)
            if place is None and len(text) >= LONG:
                place = next((place for place, one in long if text in one or one in text), None)
            if place is not None:
                raise BadInput(
                    f"{KEY}: prompt {place + 1} of {path} is a question of evaluation.tasks.{benchmark} "
                    f"({_short(prompts[place])!r}), expected other questions; remove it"
                )


def local_questions(tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Benchmark and texts of each question in local data, as these hold it; tasks: the config's `evaluation.tasks`."""
    for name, settings in tasks.items():
        if settings.get("data"):
            for row in read_data(Path(settings["data"]), f"evaluation.tasks.{name}.data").questions:
                yield name, texts_of(row)


def texts_of(row: Mapping[str, Any]) -> list[str]:
    """The texts of a row of data that can be a question: options and short answers are in many prompts."""
    return [value for value in row.values() if isinstance(value, str) and len(value.split()) > 3]


def plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
