"""Kinds of values that OpenAI's requests have of their own: prompts, biases, seeds, adapters."""

from __future__ import annotations

from typing import Any

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.generation.writing import Full
from hearth.runtime.serving.openai.fields import field, record, required
from hearth.runtime.serving.openai.kinds import (
    Kind,
    either,
    integer,
    listing,
    made,
    mapping,
    number,
    text,
    word,
    wrong,
)

MOST_BIASES = 1024
MOST_INPUTS = 2048
TOKEN = 2**31 - 1
NAME = text(1, 256)


def one_or_many(kind: Kind, most: int) -> Kind:
    """A value or an array of them, always as a tuple."""
    return either((list, listing(kind, 0, most)), (object, made(kind, lambda value: (value,))))


def inputs() -> Kind:
    """Texts or ids, one or several, always as a tuple."""
    ids = listing(integer(0, TOKEN), 1)
    several = [listing(kind, 1, MOST_INPUTS).schema for kind in (text(), ids)]
    schema = {"anyOf": [text().schema, ids.schema, *several]}

    def read(value: Any, place: str) -> tuple[str | tuple[int, ...], ...]:
        if isinstance(value, str):
            return (text().read(value, place),)
        if not isinstance(value, list) or not value:
            wrong(place, value, "a text, an array of token ids, or an array of such")
        if isinstance(value[0], int | float):
            return (ids.read(value, place),)
        if isinstance(value[0], str):
            return listing(text(), 1, MOST_INPUTS).read(value, place)  # type: ignore[no-any-return]
        return listing(ids, 1, MOST_INPUTS).read(value, place)  # type: ignore[no-any-return]

    return Kind(read, schema)


def biases() -> Kind:
    """Numbers by token id, as pairs."""
    kind = mapping(number(-100, 100), _token_id)

    def read(value: Any, place: str) -> tuple[tuple[int, float], ...]:
        found = kind.read(value, place)
        if len(found) != len(value) or len(found) > MOST_BIASES:
            wrong(place, f"{len(value)} biases", f"at most {MOST_BIASES}, each token once")
        return tuple(found.items())

    names = {"pattern": "^(0|[1-9][0-9]{0,8})$"}
    schema = {**kind.schema, "propertyNames": names, "maxProperties": MOST_BIASES}
    return Kind(read, schema)


def _token_id(name: str, place: str) -> int:
    if not name.isascii() or not name.isdigit() or len(name) > 10 or int(name) > TOKEN:
        wrong(f"{place}.{name:.40}", name, "a token id as the name")
    return int(name)


def seed() -> Kind:
    """OpenAI's seeds have a sign; the generator's are those modulo 2^64."""
    return made(integer(-(2**63), 2**64 - 1), lambda value: value % 2**64)


def adapter() -> Kind:
    """A name, or an object that also says the scale."""
    scaled = record((required("name", NAME), field("scale", number(-1e6, 1e6))), AdapterUse)
    return either((str, made(NAME, AdapterUse)), (dict, scaled))


def full() -> Kind:
    """What happens at the end of the context."""
    return made(word(*(each.value for each in Full)), Full)
