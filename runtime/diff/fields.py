"""Two pieces of plain data, compared field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from hearth.runtime.diff.findings import Change


def plain(value: Any) -> Any:
    """A typed value with its fields' and members' names: what a person can read."""
    if isinstance(value, Enum):
        return value.name.lower()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    return value


def _key(key: Any) -> str:
    return key.name if isinstance(key, Enum) else str(key)


def field_changes(a: Any, b: Any, path: str = "") -> Iterator[Change]:
    """Every place where they differ, by its path: `dims.heads`, `layers[2].scheme`."""
    match a, b:
        case dict(), dict():
            for name in {**a, **b}:
                yield from _inside(a, b, name, f"{path}.{name}" if path else str(name))
        case list(), list() if _nested(a) or _nested(b):
            one, other = dict(enumerate(a)), dict(enumerate(b))
            for place in range(max(len(a), len(b))):
                yield from _inside(one, other, place, f"{path}[{place}]")
        case _ if type(a) is not type(b) or a != b:
            yield Change(path, a, b)


def _inside(a: dict[Any, Any], b: dict[Any, Any], key: Any, path: str) -> Iterator[Change]:
    if key in a and key in b:
        yield from field_changes(a[key], b[key], path)
    else:
        yield Change(
            path,
            *("null" if key in side and side[key] is None else side.get(key) for side in (a, b)),
        )


def _nested(items: list[Any]) -> bool:
    """Lists of records are compared item by item; ids and sizes are shown whole."""
    return any(isinstance(item, dict | list) for item in items)
