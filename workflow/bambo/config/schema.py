"""Reading the JSON schema of the config: which keys there are, and what each expects, in words."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from .models import Config

Node = dict[str, Any]
Key = str | int


@cache
def config_schema() -> Node:
    """JSON schema of the config (draft 2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def options(node: Node) -> list[Node]:
    """What a value may be, beside null: the node itself, or the tables and types that it refers to."""
    found = [each for each in node.get("anyOf", [node]) if each.get("type") != "null"]
    return [_definitions()[each["$ref"].rsplit("/", 1)[1]] if "$ref" in each else each for each in found]


def _definitions() -> dict[str, Node]:
    return config_schema()["$defs"]


def resolved(node: Node, kind: str | None = None) -> Node:
    """The first of the node's options, or the first of a type."""
    return next(each for each in options(node) if kind in (None, each.get("type")))


def child(node: Node, key: Key) -> Node:
    """What belongs under a key (or an index) of a table or list that the schema knows."""
    several = len(options(node)) > 1
    node = resolved(node, ("array" if isinstance(key, int) else "object") if several else None)
    if node["type"] == "array":
        return node["items"]
    if "properties" in node:
        return node["properties"][key]
    return named_entries(node)[1]


def settled(location: tuple[Key, ...], given: Any) -> tuple[Key, ...] | None:
    """The place of one of pydantic's findings in the given config; None where it is of an option that was not meant.

    Where a value may be one of several things, pydantic reports each of them, and adds its name to the place. A list
    is meant as a list, a table as a table; of all else there is nothing to tell but all that it may be.
    """
    node, place = config_schema(), list[Key]()
    for i, key in enumerate(location):
        if len(options(node)) > 1:
            kind = "array" if isinstance(given, list) else "object" if isinstance(given, dict) else ""
            if kind not in [option["type"] for option in options(node)]:
                return tuple(place)
            if kind != (
                "array" if str(key).startswith("list[") else "object" if key in _definitions() else ""
            ):
                return None
            node = resolved(node, kind)
            continue
        place.append(key)
        try:
            node, given = child(node, key), given[key]
        except (KeyError, StopIteration, TypeError):  # missing, unknown, or the name of an entry
            return (*place, *location[i + 1 :])
    return tuple(place)


def named_entries(node: Node) -> tuple[str, Node]:
    """Pattern of the names, and schema of an entry, of a table whose keys are the user's names."""
    if "patternProperties" in node:
        return next(iter(node["patternProperties"].items()))
    return "", node["additionalProperties"]


def node_at(location: Sequence[Key]) -> Node:
    node = config_schema()
    for key in location:
        node = child(node, key)
    return node


class Row(NamedTuple):
    key: str  # dotted, `<name>` for names that the user gives
    node: Node
    required: bool
    identity: bool


def rows(node: Node, prefix: str = "", identity: bool = False) -> Iterator[Row]:
    """Every key under a table, in the order of the models."""
    node = resolved(node)
    if "properties" not in node:
        entry = named_entries(node)[1]
        if resolved(entry).get("type") == "object":  # else the key of the table says it all
            yield from rows(entry, f"{prefix}<name>.", identity)
        return
    for key, value in node["properties"].items():
        marked = value.get("identity", identity)
        yield Row(f"{prefix}{key}", value, key in node.get("required", []), marked)
        if resolved(value).get("type") == "object":
            yield from rows(value, f"{prefix}{key}.", marked)


def expectation(node: Node) -> str:
    """What a value must be, in words: "a whole number of at least 1", "null or one of rbf, matern52"."""
    if "anyOf" in node:
        nothing = ["null"] if {"type": "null"} in node["anyOf"] else []
        *others, last = [*nothing, *map(expectation, options(node))]
        return f"{', '.join(others)}{',' if len(others) > 1 else ''} or {last}"
    node = resolved(node)
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if "const" in node:
        return str(node["const"])
    match node["type"]:
        case "integer":
            return "a whole number" + _bounds(node)
        case "number":
            return "a number" + _bounds(node)
        case "string":
            return "text" + (characters(node["pattern"]) if "pattern" in node else "")
        case "boolean":
            return "true or false"
        case "array":
            return f"a list{_size(node, 'Items', 'item')}, each {expectation(node['items'])}"
        case "object":
            return f"a table{_size(node, 'Properties', 'entry')}"
        case other:
            return other


def characters(pattern: str) -> str:
    return f" like `{pattern.removeprefix('^').removesuffix('$')}`"


def _bounds(node: Node) -> str:
    low, above, high = (node.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if low is not None:
        return f" of at least {low}" if high is None else f" from {low} to {high}"
    if above is not None:
        return f" above {above}" if high is None else f" above {above} and at most {high}"
    return ""


def _size(node: Node, what: str, unit: str) -> str:
    low, high = node.get(f"min{what}"), node.get(f"max{what}")
    if low is None:
        return ""
    return f" of {'' if low == high else 'at least '}{counted(low, unit)}"


def counted(n: int, unit: str) -> str:
    """1 entry, 2 entries."""
    plural = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    return f"{n} {unit if n == 1 else plural}"
