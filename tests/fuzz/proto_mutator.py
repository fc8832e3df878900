"""Mutations of a protobuf message by its own description: any field set, cleared, doubled, swapped or nudged."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import DecodeError, Message

INTEGERS = (-(2**31), -2, -1, 0, 1, 2, 3, 4, 7, 13, 16, 64, 1000, 2**20, 2**31 - 1)
LONGS = (*INTEGERS, -(2**63), 2**33, 2**40, 2**62, 2**63 - 1)
TEXTS = (
    "",
    "x",
    "input_ids",
    "..",
    "../../etc/passwd",
    "/dev/zero",
    "Loop",
    "If",
    "Cast",
    "com.microsoft",
    "é" * 50,
)


def mutate_message(data: bytes, kind: type[Message], rng: random.Random) -> bytes | None:
    """The bytes of the message with a few changes; None where they are no such message."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        chosen = rng.choice(_messages(message))
        with suppress(UnicodeDecodeError):  # a text that is no UTF-8 cannot be assigned
            _mutate(chosen, rng)
    return bytes(message.SerializePartialToString())


def _messages(message: Message) -> list[Message]:
    """The message and all messages inside it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            inner = list(value) if field.is_repeated else [value]
            for each in inner:
                found += _messages(each)
    return found


def _mutate(message: Message, rng: random.Random) -> None:
    field = rng.choice(list(message.DESCRIPTOR.fields))
    value = getattr(message, field.name)
    if field.is_repeated:
        _mutate_list(field, value, rng)
    elif field.message_type is not None:
        message.ClearField(field.name) if rng.random() < 0.5 else value.SetInParent()
    else:
        _assign(message, field, value, rng)


def _mutate_list(field: Any, values: Any, rng: random.Random) -> None:
    at = rng.randrange(len(values)) if len(values) else 0
    action = rng.randrange(4)
    if action == 0 and len(values):
        del values[at]
    elif field.message_type is not None:
        if len(values):
            copied = type(values[at])()
            copied.CopyFrom(values[at if action != 1 else rng.randrange(len(values))])
            values.append(copied)
        else:
            values.add()
    elif len(values) and action == 1:
        values[at] = values[rng.randrange(len(values))]
    elif len(values):
        values[at] = _scalar(field, values[at], rng)
    else:
        values.append(
            _scalar(field, field.default_value, rng) if field.default_value else _zero(field)
        )


def _zero(field: Any) -> Any:
    kinds = {Field.CPPTYPE_STRING: b"" if field.type == Field.TYPE_BYTES else ""}
    return kinds.get(field.cpp_type, 0)


def _assign(message: Message, field: Any, value: Any, rng: random.Random) -> None:
    if rng.random() < 0.15:
        message.ClearField(field.name)
        return
    setattr(message, field.name, _scalar(field, value, rng))


def _scalar(field: Any, value: Any, rng: random.Random) -> Any:
    match field.cpp_type:
        case Field.CPPTYPE_INT64:
            return _integer(value, LONGS, 63, rng)
        case Field.CPPTYPE_INT32:
            return _integer(value, INTEGERS, 31, rng)
        case Field.CPPTYPE_UINT64:
            return abs(_integer(value, LONGS, 63, rng))
        case Field.CPPTYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        case Field.CPPTYPE_STRING if field.type == Field.TYPE_BYTES:
            return _bytes(value, rng)
        case Field.CPPTYPE_STRING:
            text = value if isinstance(value, str) else ""  # bytes where the text is no UTF-8
            return rng.choice((*TEXTS, text[: len(text) // 2], text + "0"))
        case Field.CPPTYPE_BOOL:
            return not value
        case _:
            return rng.choice((0.0, 1.0, -1.0, 1e-5, 1e30, float("nan"), float("inf"), -value))


def _integer(value: int, edges: tuple[int, ...], bits: int, rng: random.Random) -> int:
    near = (value + 1, value - 1, value * 2, value // 2, -value)
    chosen = rng.choice((*near, *edges))
    return max(-(2**bits), min(2**bits - 1, chosen))


def _bytes(value: bytes, rng: random.Random) -> bytes:
    changed = bytearray(value)
    if changed and rng.random() < 0.6:
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif rng.random() < 0.5:
        del changed[rng.randrange(len(changed) + 1) :]
    else:
        changed += bytes(rng.randrange(9))
    return bytes(changed)
