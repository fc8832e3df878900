"""Where a schema goes wrong: the smallest part that has the same problem alone, and the keyword that causes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Keywords by what they hold; definitions first, for a reference to one has its problem too.
NAMED = (
    "$defs",
    "definitions",
    "properties",
    "patternProperties",
    "dependentSchemas",
)
LISTED = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
SINGLE = (
    "items",
    "additionalProperties",
    "additionalItems",
    "unevaluatedItems",
    "unevaluatedProperties",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
)
DEFINITIONS = ("$defs", "definitions")
MOST_TRIES = 300  # of a large schema the place found is then a larger one

Problem = Callable[[Any], str]


@dataclass(frozen=True)
class Fault:
    """A JSON pointer into the schema ("" is the whole), and the keyword there, empty where it is no single one."""

    pointer: str
    keyword: str


def find_fault(schema: Any, problem: Problem, found: str) -> Fault:
    """The place of the problem `found` of a schema."""
    tries = iter(range(MOST_TRIES))
    shared = {key: schema[key] for key in DEFINITIONS if _is_object(schema) and key in schema}

    def same(part: Mapping[str, Any]) -> bool:
        return next(tries, None) is not None and problem({**part, **shared}) == found

    pointer, node = "", schema
    while _is_object(node):
        inner = next(((at, part) for at, part in _children(node) if same(part)), None)
        if inner is None:
            return Fault(f"#{pointer}", _keyword(node, same))
        pointer, node = pointer + inner[0], inner[1]
    return Fault(f"#{pointer}", "")


def _keyword(node: Mapping[str, Any], same: Callable[[Mapping[str, Any]], bool]) -> str:
    """The one without which the problem is gone; `type` last, for without it much else says nothing."""
    for key in sorted(node, key="type".__eq__):
        if key not in DEFINITIONS and not same({k: v for k, v in node.items() if k != key}):
            return key
    return ""


def subschemas(schema: Any, pointer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema that is an object and all those inside it, each with its JSON pointer."""
    if _is_object(schema):
        yield pointer, schema
        for at, part in _children(schema):
            yield from subschemas(part, pointer + at)


def levels(schema: Any, pointer: str = "") -> dict[str, int]:
    """By JSON pointer, how many schemas lie one inside the other there, references not followed."""
    found: dict[str, int] = {}
    most = 0
    for at, part in _children(schema) if _is_object(schema) else ():
        found |= levels(part, pointer + at)
        most = max(most, found[pointer + at])
    return {pointer: 1 + most, **found}


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in NAMED:
        if _is_object(node.get(key)):
            yield from _objects(
                (f"/{key}/{_escaped(name)}", part) for name, part in node[key].items()
            )
    for key in LISTED:
        if isinstance(node.get(key), list):
            yield from _objects((f"/{key}/{i}", part) for i, part in enumerate(node[key]))
    for key in SINGLE:
        yield from _objects([(f"/{key}", node.get(key))])


def _objects(parts: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((at, part) for at, part in parts if _is_object(part))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _escaped(name: str) -> str:
    """A key inside a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
