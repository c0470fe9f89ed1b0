"""What is wrong with a config, as one line that names the key."""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from ..errors import BadInput
from .schema import Key, characters, counted, expectation, named_entries, node_at, resolved, settled

Location = tuple[Key, ...]
Problem = tuple[Location, str]  # where; and what was found, what was expected, what to do

NAME_OF_ENTRY = "[key]"  # pydantic's mark for a name that is wrong, as opposed to what stands under it


def bad_input(problems: Iterable[Problem], given: Any) -> BadInput:
    """The first problem in the order of the user's config, and how many more there are."""
    first, *more = sorted(problems, key=lambda problem: _position(problem[0], given))
    location, text = first
    count = f" (and {counted(len(more), 'more problem')})" if more else ""
    return BadInput(one_line(f"{dotted(location)}: {text}{count}"))


def schema_problems(error: ValidationError, given: Any, under: Location = ()) -> Iterable[Problem]:
    """Pydantic's findings, in our words: the schema says what was expected; under: the place of the checked table."""
    findings: list[Any] = error.errors(include_url=False, include_context=False)
    findings = [{**each, "loc": (*under, *each["loc"])} for each in findings]
    # As keys, since what fits none of several options is found once for each of them.
    return dict.fromkeys(problem for each in findings for problem in _problem(each, given))


def _problem(finding: Any, given: Any) -> Iterator[Problem]:
    location, value = settled(finding["loc"], given), finding["input"]
    if location is None:
        return
    match finding["type"]:
        case "extra_forbidden" | "invalid_key":
            known = list(resolved(node_at(location[:-1]), "object")["properties"])
            yield location, f"unknown key{nearest(location[-1], known)}"
        case "missing":
            expected = expectation(node_at(location))
            yield location, f"missing, expected {expected}; add it (see config/README.md)"
        case _ if location[-1:] == (NAME_OF_ENTRY,):
            pattern, _ = named_entries(resolved(node_at(location[:-2])))
            yield location[:-1], f"found {found(value)} as a name, expected text{characters(pattern)}"
        case _:
            node = node_at(location)
            choice = f"; did you mean {near}?" if (near := _near(value, _choices(node))) else ""
            yield location, f"found {found(value)}, expected {expectation(node)}{choice}"


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, else all of them."""
    known = list(known)
    near = _near(name, known)
    return f", did you mean {near}?" if near else f", expected one of {', '.join(known)}"


def found(value: object) -> str:
    """A value as the user wrote it, cut to a length that fits a message."""
    if isinstance(value, dict):
        return f"a table of {counted(len(value), 'entry')}"
    if isinstance(value, str):
        return f"the text {shown(value)}" if value else "empty text"
    return shown(value)


def shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def dotted(location: Location) -> str:
    """searches.blocks.weights[0]; `config` for the whole."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)
    return text.removeprefix(".") or "config"


def one_line(text: str) -> str:
    return " ".join(text.split())


def _near(name: object, known: list[str]) -> str | None:
    return next(iter(get_close_matches(str(name), known, n=1)), None)


def _choices(node: dict[str, Any]) -> list[str]:
    return [str(choice) for choice in resolved(node).get("enum", [])]


def _position(location: Location, given: Any) -> tuple[int, ...]:
    """Where a key stands in the user's config; a missing one stands at the end of its table."""
    position: list[int] = []
    for key in location:
        keys = list(given) if isinstance(given, dict) else list(range(len(given)))
        if key not in keys:
            return (*position, len(keys))
        position.append(keys.index(key))
        given = given[key]
    return tuple(position)
