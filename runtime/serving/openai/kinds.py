"""Kinds of JSON values: each reads a value or refuses it by its place, and says the same as a JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from hearth.runtime.serving.refusals import Refusal

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """`read(value, place)` gives the value as the server uses it; Refusal 400 names the place."""

    read: Callable[[Any, str], Any]
    schema: Schema


def wrong(place: str, found: Any, expected: str) -> NoReturn:
    """Refuse a value."""
    raise Refusal(
        400,
        f"{place or 'the body'} is {found!r:.80}, expected {expected}",
        parameter=place or None,
        code="invalid_value",
    )


def integer(least: int | None = None, most: int | None = None) -> Kind:
    """A whole number."""
    expected = f"an integer{_range(least, most)}"

    def read(value: Any, place: str) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)  # JSON knows one kind of number
        if type(value) is not int or _outside(value, least, most):
            wrong(place, value, expected)
        return value

    return Kind(read, {"type": "integer", **_limits(least, most)})


def number(least: float | None = None, most: float | None = None, above: bool = False) -> Kind:
    """A number; `above`: the least itself is outside."""
    expected = f"a number{_range(least, most)}" + (f", not {least:g}" if above else "")

    def read(value: Any, place: str) -> float:
        good = type(value) in (int, float) and not _outside(value, least, most)
        if not good or (above and value == least) or not math.isfinite(_float(value)):
            wrong(place, value, expected)
        return float(value)

    limits = _limits(least, most)
    if above:
        limits = {"exclusiveMinimum": least, **{k: v for k, v in limits.items() if k != "minimum"}}
    return Kind(read, {"type": "number", **limits})


def boolean() -> Kind:
    """true or false."""

    def read(value: Any, place: str) -> bool:
        if type(value) is not bool:
            wrong(place, value, "true or false")
        return value

    return Kind(read, {"type": "boolean"})


def text(least: int = 0, most: int | None = None) -> Kind:
    """A string of so many characters that UTF-8 can hold."""

    def read(value: Any, place: str) -> str:
        if not isinstance(value, str) or _outside(len(value), least, most):
            limits = (
                f" of {_range(least or None, most).strip()} characters" if least or most else ""
            )
            wrong(place, value, f"a string{limits}")
        if not _is_unicode(value):
            wrong(place, value, "text that UTF-8 can hold")
        return value

    limits = {"minLength": least or None, "maxLength": most}
    return Kind(read, {"type": "string", **_given(limits)})


def word(*words: str) -> Kind:
    """One of some words."""
    expected = f"one of {', '.join(words)}" if len(words) > 1 else words[0]

    def read(value: Any, place: str) -> str:
        if not isinstance(value, str) or value not in words:
            wrong(place, value, expected)
        return value

    return Kind(read, {"type": "string", "enum": list(words)})


def listing(item: Kind, least: int = 0, most: int | None = None) -> Kind:
    """An array of one kind, as a tuple."""

    def read(value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or _outside(len(value), least, most):
            found = f"an array of {len(value)}" if isinstance(value, list) else value
            wrong(place, found, f"an array of {_range(least or None, most).strip() or 'values'}")
        return tuple(item.read(each, f"{place}[{index}]") for index, each in enumerate(value))

    limits = {"minItems": least or None, "maxItems": most}
    return Kind(read, {"type": "array", "items": item.schema, **_given(limits)})


def mapping(values: Kind | None = None, keys: Callable[[str, str], Any] | None = None) -> Kind:
    """An object with names of its own; `keys(name, place)` reads these."""

    def read(value: Any, place: str) -> dict[Any, Any]:
        if not isinstance(value, dict):
            wrong(place, value, "an object")
        if values is None:
            return value
        return {
            keys(name, place) if keys else name: values.read(each, f"{place}.{name}")
            for name, each in value.items()
        }

    schema: Schema = {} if values is None else {"additionalProperties": values.schema}
    return Kind(read, {"type": "object", **schema})


def optional(kind: Kind) -> Kind:
    """The kind, or null, which says as much as leaving it out."""
    return Kind(
        lambda value, place: None if value is None else kind.read(value, place),
        {"anyOf": [kind.schema, {"type": "null"}]},
    )


def made(kind: Kind, make: Callable[[Any], Any]) -> Kind:
    """What `make` makes of the value."""
    return Kind(lambda value, place: make(kind.read(value, place)), kind.schema)


def either(*choices: tuple[type | tuple[type, ...], Kind]) -> Kind:
    """One of several kinds, told apart by the value's JSON type."""
    expected = " or ".join(str(kind.schema.get("type", "a value")) for _, kind in choices)

    def read(value: Any, place: str) -> Any:
        for types, kind in choices:
            if isinstance(value, types):
                return kind.read(value, place)
        wrong(place, value, expected)

    return Kind(read, {"anyOf": [kind.schema for _, kind in choices]})


def tagged(tag: str, kinds: Mapping[str, Kind]) -> Kind:
    """An object whose field `tag` says which kind it is."""
    expected = f"one of {', '.join(kinds)}"

    def read(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            wrong(place, value, "an object")
        name = value.get(tag)
        if not isinstance(name, str) or name not in kinds:
            wrong(f"{place}.{tag}", name, expected)
        return kinds[name].read(value, place)

    return Kind(read, {"anyOf": [kind.schema for kind in kinds.values()]})


def refused(instead: str) -> Kind:
    """A parameter that is known and not served."""

    def read(value: Any, place: str) -> NoReturn:
        raise Refusal(
            400,
            f"{place} is not supported by this server; {instead}",
            parameter=place,
            code="unsupported_parameter",
        )

    return Kind(read, {"not": {}})


def only_false(instead: str) -> Kind:
    """A switch that can be off alone."""
    on = refused(instead)

    def read(value: Any, place: str) -> bool:
        return bool(on.read(value, place)) if boolean().read(value, place) else False

    return Kind(read, {"const": False})


def any_value() -> Kind:
    """Whatever it is."""
    return Kind(lambda value, place: value, {})


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in value) if not value.isascii() else True


def _outside(value: float, least: float | None, most: float | None) -> bool:
    return (least is not None and value < least) or (most is not None and value > most)


def _range(least: float | None, most: float | None) -> str:
    match least, most:
        case None, None:
            return ""
        case None, _:
            return f" up to {most:g}"
        case _, None:
            return f" from {least:g}"
    return f" from {least:g} to {most:g}"


def _limits(least: float | None, most: float | None) -> dict[str, Any]:
    return _given({"minimum": least, "maximum": most})


def _given(limits: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if value is not None}
