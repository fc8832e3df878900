"""Objects of named fields, read by a table into a frozen dataclass; the same table is their JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hearth.runtime.serving.openai.kinds import Kind, Schema, optional, wrong
from hearth.runtime.serving.refusals import Refusal


@dataclass(frozen=True)
class Field:
    """A field of an object. `into` is the dataclass's own name for it (None: read, checked and left alone)."""

    name: str
    kind: Kind
    into: str | None
    required: bool = False
    about: str = ""


def field(name: str, kind: Kind, about: str = "", into: str = "") -> Field:
    """One that may be left out, or be null."""
    return Field(name, optional(kind), into or name, about=about)


def required(name: str, kind: Kind, about: str = "") -> Field:
    """One that must be there."""
    return Field(name, kind, name, required=True, about=about)


def ignored(name: str, kind: Kind, about: str = "") -> Field:
    """One that changes nothing here, though it must be well-formed."""
    return Field(name, optional(kind), None, about=about or "ignored")


def record(fields: Sequence[Field], make: Callable[..., Any]) -> Kind:
    """An object of these fields and no others; `make` is called with those that are there and not null.

    Of fields that are read into the same name one may be given.
    """
    table = {each.name: each for each in fields}
    needed = [each.name for each in fields if each.required]

    def read(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            wrong(place, value, "an object")
        _check_names(value, table, needed, place)
        found: dict[str, Any] = {}
        names: dict[str, str] = {}
        for name, given in value.items():
            each, where = table[name], f"{place}.{name}" if place else name
            read = each.kind.read(given, where)
            if each.into is None or read is None:
                continue
            if each.into in found:
                conflict(where, f"{names[each.into]} and {name}: only one of them can be given")
            found[each.into], names[each.into] = read, name
        return make(**found)

    properties = {each.name: _described(each) for each in fields}
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return Kind(read, {**schema, "required": needed} if needed else schema)


def conflict(parameter: str, message: str) -> NoReturn:
    """Refuse fields that contradict each other."""
    raise Refusal(400, message, parameter=parameter, code="invalid_value")


def _described(each: Field) -> Schema:
    return {**each.kind.schema, "description": each.about} if each.about else each.kind.schema


def _check_names(
    value: dict[str, Any], table: dict[str, Field], needed: list[str], place: str
) -> None:
    before = f"{place}." if place else ""
    for name in value:
        if name not in table:
            raise Refusal(
                400, f"there is no parameter {before}{name!s:.80}",
                parameter=f"{before}{name!s:.80}", code="unknown_parameter",
            )  # fmt: skip
    for name in needed:
        if name not in value:
            raise Refusal(
                400,
                f"{before}{name} is missing",
                parameter=f"{before}{name}",
                code="missing_parameter",
            )
