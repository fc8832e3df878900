"""What a caller may ask an answer to look like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hearth.schemas.errors import InputError


@dataclass(frozen=True)
class JsonObject:
    """JSON mode: any object."""


@dataclass(frozen=True)
class JsonSchema:
    """JSON that fits a schema (Draft 2020-12), given as its text: the order of properties counts.

    `closed`: objects hold the properties that they list and no others, unless the schema speaks of others (closed.py).
    """

    text: str
    closed: bool = False

    @classmethod
    def of(cls, schema: Mapping[str, Any] | bool, closed: bool = False) -> JsonSchema:
        """The wish of a schema read already; InputError `grammar.schema` for one nested beyond measure."""
        try:
            return cls(json.dumps(schema, ensure_ascii=False), closed)
        except RecursionError:
            raise InputError(
                "grammar.schema", "the schema is nested too deeply", expected="a few levels"
            ) from None


@dataclass(frozen=True)
class Regex:
    """A text that the regular expression matches whole (the syntax of Rust's regex, no look-around)."""

    text: str


@dataclass(frozen=True)
class Ebnf:
    """A context-free grammar: llguidance's form of Lark with a rule `start`, or GBNF with a rule `root`."""

    text: str


@dataclass(frozen=True)
class Lark:
    """A grammar of llguidance's Lark that the runtime wrote itself (tool calls)."""

    text: str


GrammarWish = JsonObject | JsonSchema | Regex | Ebnf | Lark


def schema_of(wish: JsonSchema) -> Any:
    """The schema as data; InputError `grammar.schema` where the text is no JSON."""
    try:
        schema = json.loads(wish.text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "grammar.schema", f"the schema is not JSON: {error}", expected="a JSON object"
        ) from None
    if not isinstance(schema, dict | bool):
        raise InputError(
            "grammar.schema", f"the schema is {wish.text:.60}", expected="a JSON object"
        )
    return schema
