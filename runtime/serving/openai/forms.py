"""The fields that say what an answer must look like, OpenAI's and those of other servers; an answer has one form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hearth.runtime.grammar import Ebnf, GrammarWish, JsonObject, JsonSchema, Lark, Regex
from hearth.runtime.serving.openai.fields import Field, field, ignored, record, required
from hearth.runtime.serving.openai.kinds import (
    Kind,
    boolean,
    either,
    listing,
    made,
    mapping,
    tagged,
    text,
    word,
)

MOST_CHOICES = 1024


def _schema_format(type: str, json_schema: GrammarWish) -> GrammarWish:
    return json_schema


def _json_schema(name: str, schema: Mapping[str, Any] | None = None) -> GrammarWish:
    return JsonObject() if schema is None else JsonSchema.of(schema, closed=True)


NAMED = (
    required("name", text(1, 64)),
    field("schema", mapping()),
    ignored("description", text()),
    ignored("strict", boolean(), "answers always keep the schema"),
)
PLAIN_FORMATS: Mapping[str, Kind] = MappingProxyType(
    {
        "text": record((required("type", word("text")),), lambda type: None),
        "json_object": record((required("type", word("json_object")),), lambda type: JsonObject()),
    }
)
A_SCHEMA = required("type", word("json_schema"))
RESPONSE_FORMAT = tagged(
    "type",
    {
        **PLAIN_FORMATS,
        "json_schema": record(
            (A_SCHEMA, required("json_schema", record(NAMED, _json_schema))), _schema_format
        ),
    },
)
TEXT_FORMAT = tagged(
    "type",
    {
        **PLAIN_FORMATS,
        "json_schema": record((A_SCHEMA, *NAMED), lambda type, **named: _json_schema(**named)),
    },
)
SCHEMA = either(
    (str, made(text(1), lambda given: JsonSchema(given, closed=True))),
    (dict, made(mapping(), lambda given: JsonSchema.of(given, closed=True))),
)
REGEX = made(text(1), Regex)
GRAMMAR = made(text(1), Ebnf)


def _one_of(choices: Sequence[str]) -> Lark:
    """A grammar whose answers are these texts."""
    return Lark("start: " + " | ".join(json.dumps(choice) for choice in choices))


def _form_field(name: str, kind: Kind, about: str = "") -> Field:
    return field(name, kind, about, into="form")


def _form(form: GrammarWish | None = None) -> GrammarWish | None:
    return form


CHOICE = made(listing(text(1), 1, MOST_CHOICES), _one_of)


OBJECT = made(boolean(), lambda wanted: JsonObject() if wanted else None)
STRUCTURED: Kind = record(
    (
        field("json", SCHEMA, into="form"),
        field("regex", REGEX, into="form"),
        field("choice", CHOICE, into="form"),
        field("grammar", GRAMMAR, into="form"),
        field("json_object", OBJECT, into="form"),
        ignored("disable_any_whitespace", boolean()),
        ignored("disable_additional_properties", boolean()),
        ignored("whitespace_pattern", text()),
    ),
    _form,
)
FORMS: tuple[Field, ...] = (
    _form_field("regex", REGEX, "Hearth's own: the answer matches this regular expression"),
    _form_field("grammar", GRAMMAR, "Hearth's own: the answer follows this grammar (Lark or GBNF)"),
    _form_field("guided_json", SCHEMA, "vLLM's: the answer is JSON of this schema"),
    _form_field("guided_regex", REGEX, "vLLM's: as regex"),
    _form_field("guided_choice", CHOICE, "vLLM's: the answer is one of these texts"),
    _form_field("guided_grammar", GRAMMAR, "vLLM's: as grammar"),
    _form_field("structured_outputs", STRUCTURED, "vLLM's: one of json, regex, choice, grammar"),
)
CHAT_FORMS: tuple[Field, ...] = (_form_field("response_format", RESPONSE_FORMAT), *FORMS)
