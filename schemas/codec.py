"""Frozen dataclasses to plain msgpack data and back; what does not fit is refused by its path.

The form follows the type hints: records are maps of their fields, or arrays where POSITIONAL says so;
enums are their values, tuples arrays, mappings maps, None nil. Decoders are built once per type.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from operator import call
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from hearth.schemas.bounds import LARGEST, Bounds, is_number
from hearth.schemas.errors import ArchiveError
from hearth.schemas.kv_layout import Span
from hearth.schemas.program import Command, Operand
from hearth.schemas.sections import Section
from hearth.schemas.weights_index import TensorEntry

T = TypeVar("T")
Decode = Callable[[Any], Any]

POSITIONAL: frozenset[type] = frozenset({Operand, Command, Section, Span, TensorEntry})
PLAIN: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    bytes: "bytes",
    NoneType: "nil",
}
# A section of structured data larger than this is refused before it is decoded.
MAX_STRUCTURED_NBYTES = 4 << 20


class Refused(Exception):
    """A value does not fit; the path grows outwards while the exception rises."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found)
        self.found, self.expected, self.path = found, expected, ""

    def under(self, step: str) -> Refused:
        self.path = step + self.path
        return self


def encode(value: Any) -> Any:
    """Plain data of a typed value."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        pairs = [(field.name, encode(getattr(value, field.name))) for field in fields(value)]
        return [item for _, item in pairs] if type(value) in POSITIONAL else dict(pairs)
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {encode(key): encode(item) for key, item in value.items()}
    return value


def decode(kind: type[T], data: Any, root: str, where: str = "") -> T:
    """The typed value of plain data; ArchiveError archive.schema names the path that does not fit."""
    try:
        hint: Any = kind
        value: T = _decoder(hint)(data)
    except Refused as refused:
        raise _error(f"{root}{refused.path} is {refused.found}", refused.expected, where) from None
    return value


def dumps(value: Any) -> bytes:
    """The msgpack bytes of a typed value, checked to decode to the same value (else a bug: ValueError)."""
    data = encode(value)
    try:
        same = decode(type(value), data, type(value).__name__) == value
    except ArchiveError as error:
        raise ValueError(f"not a well-formed value: {error}") from error
    if not same:
        raise ValueError(f"{type(value).__name__} does not survive a round trip")
    packed: bytes = msgpack.packb(data, strict_types=True)
    return packed


def loads(kind: type[T], data: bytes | memoryview, root: str, where: str = "") -> T:
    """The typed value of msgpack bytes; anything else is ArchiveError archive.schema."""
    return decode(kind, unpack(data, root, where), root, where)


def unpack(
    data: bytes | memoryview, root: str, where: str = "", most: int = MAX_STRUCTURED_NBYTES
) -> Any:
    """Plain data of at most `most` untrusted msgpack bytes, in memory bounded by them."""
    size = len(data)
    if size > most:
        raise _error(f"{root} has {size} bytes", f"at most {most}", where)
    limits = dict.fromkeys(("max_str_len", "max_bin_len", "max_array_len", "max_map_len"), size)
    try:
        return msgpack.unpackb(
            data, raw=False, strict_map_key=True, max_ext_len=0, object_pairs_hook=_pairs, **limits
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        detail = (str(error) or type(error).__name__)[:80]
        raise _error(f"{root} is not msgpack ({detail})", "one msgpack value", where) from None


def _pairs(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    items = list(pairs)
    made = dict(items)
    if len(made) != len(items):
        raise ValueError("a map has the same key twice")
    return made


def _error(found: str, expected: str, where: str) -> ArchiveError:
    remedy = "the archive is damaged or was not written by hearth; compile it again"
    return ArchiveError("archive.schema", found, expected=expected, where=where, remedy=remedy)


def _refuse(data: Any, expected: str) -> Refused:
    return Refused(reprlib.repr(data), expected)


@cache
def _decoder(hint: Any) -> Decode:
    """The decoder of one type hint."""
    if is_dataclass(hint):
        return _positional(hint) if hint in POSITIONAL else _named(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _choice({member.value: member for member in hint})
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _number_of(args[0], args[1])
    if origin in (Union, UnionType):
        return _union(tuple((_wire(arg), _decoder(arg)) for arg in args))
    if origin is Literal:
        return _choice({value: value for value in args})
    if origin is tuple and args[1:] == (...,):
        return _array(_decoder(args[0]))
    if origin is Mapping:
        return _map(*map(_decoder, args))
    if hint in (int, float):
        return _number_of(hint, Bounds(0, LARGEST) if hint is int else Bounds(-math.inf))
    return _plain(hint, PLAIN[hint])


def _number_of(kind: type, bounds: Bounds) -> Decode:
    if kind is int:
        return _integer(bounds.low, min(bounds.high, LARGEST))
    return _number(bounds.low, bounds.high)


def _wire(hint: Any) -> type:
    """The type that values of a hint have in plain data."""
    if is_dataclass(hint):
        return list if hint in POSITIONAL else dict
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return type(next(iter(hint)).value)
    if get_origin(hint) is Annotated:
        return _wire(get_args(hint)[0])
    wire: type = {tuple: list, Mapping: dict}.get(get_origin(hint), hint)
    return wire


def _integer(low: float, high: float) -> Decode:
    def decode_integer(data: Any) -> Any:
        if type(data) is int and low <= data <= high:
            return data
        raise _refuse(data, f"an integer from {low} to {high}")

    return decode_integer


def _number(low: float, high: float) -> Decode:
    expected = (
        "a finite number" if high == math.inf and low else f"a finite number from {low} to {high}"
    )

    def decode_number(data: Any) -> Any:
        if is_number(data) and low <= data <= high:
            return float(data)
        raise _refuse(data, expected)

    return decode_number


def _plain(kind: type, expected: str) -> Decode:
    def decode_plain(data: Any) -> Any:
        if type(data) is kind:
            return data
        raise _refuse(data, expected)

    return decode_plain


def _choice(values: Mapping[Any, Any]) -> Decode:
    wire = type(next(iter(values)))

    def decode_choice(data: Any) -> Any:
        if type(data) is wire and data in values:
            return values[data]
        raise _refuse(data, f"one of {', '.join(str(value) for value in values)}")

    return decode_choice


def _union(members: tuple[tuple[type, Decode], ...]) -> Decode:
    by_wire = dict(members)
    assert len(by_wire) == len(members), members
    names = " or ".join("nil" if wire is NoneType else wire.__name__ for wire in by_wire)
    if float in by_wire:
        by_wire.setdefault(int, by_wire[float])

    def decode_union(data: Any) -> Any:
        member = by_wire.get(type(data))
        if member is None:
            raise _refuse(data, names)
        return member(data)

    return decode_union


def _array(item: Decode) -> Decode:
    def decode_array(data: Any) -> Any:
        if type(data) is not list:
            raise _refuse(data, "an array")
        try:
            return tuple(map(item, data))
        except Refused as refused:
            raise refused.under(f"[{_culprit([item] * len(data), data)}]") from None

    return decode_array


def _culprit(members: Sequence[Decode], data: Sequence[Any]) -> int:
    """The place of the first item that its member refuses: sought only once decoding has failed."""
    for place, (member, each) in enumerate(zip(members, data, strict=True)):
        try:
            member(each)
        except Refused:
            return place
    raise AssertionError("no item is refused")


def _map(key: Decode, item: Decode) -> Decode:
    def decode_map(data: Any) -> Any:
        if type(data) is not dict:
            raise _refuse(data, "a map")
        values = {}
        for name, each in data.items():
            try:
                values[key(name)] = item(each)
            except Refused as refused:
                raise refused.under(f".{_step(name)}") from None
        return values

    return decode_map


def _step(name: Any) -> str:
    return name if isinstance(name, str) and len(name) <= 64 else reprlib.repr(name)


def _fields(kind: Any) -> tuple[tuple[str, Decode], ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple((field.name, _decoder(hints[field.name])) for field in fields(kind))


def _positional(kind: Any) -> Decode:
    members = _fields(kind)
    decoders = [member for _, member in members]
    expected = f"an array of {len(members)}: {', '.join(name for name, _ in members)}"

    def decode_positional(data: Any) -> Any:
        if type(data) is not list or len(data) != len(members):
            raise _refuse(data, expected)
        try:
            return kind(*map(call, decoders, data))
        except Refused as refused:
            raise refused.under(f".{members[_culprit(decoders, data)][0]}") from None

    return decode_positional


def _named(kind: Any) -> Decode:
    members = _fields(kind)
    names = dict(members).keys()
    known = ", ".join(names)

    def decode_named(data: Any) -> Any:
        if type(data) is not dict:
            raise _refuse(data, f"a map with {known}")
        if data.keys() != names:
            raise _key_error(data, names, known)
        values = {}
        for name, member in members:
            try:
                values[name] = member(data[name])
            except Refused as refused:
                raise refused.under(f".{name}") from None
        return kind(**values)

    return decode_named


def _key_error(data: Mapping[Any, Any], names: Iterable[str], known: str) -> Refused:
    missing = [name for name in names if name not in data]
    if missing:
        return Refused("missing", "a value").under(f".{missing[0]}")
    unknown = next(key for key in data if key not in set(names))
    return Refused("unknown", f"only {known}").under(f".{_step(unknown)}")
