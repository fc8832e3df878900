"""Objects that list their properties have no others, wherever that can be said without excluding an answer."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from hearth.runtime.grammar.closed import closed

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
NO = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (NAME, {**NAME, **NO}),
        ({"type": "array", "items": NAME}, {"type": "array", "items": {**NAME, **NO}}),
        ({"properties": {"a": NAME}}, {"properties": {"a": {**NAME, **NO}}, **NO}),
        ({"$defs": {"n": NAME}, "$ref": "#/$defs/n"}, {"$defs": {"n": {**NAME, **NO}}, "$ref": "#/$defs/n"}),
        ({"anyOf": [NAME, {"type": "null"}]}, {"anyOf": [{**NAME, **NO}, {"type": "null"}]}),
    ],
)  # fmt: skip
def test_what_is_closed(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert closed(schema) == expected
    assert "additionalProperties" not in str(NAME)  # the schema given is left alone


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object"},
        {**NAME, "additionalProperties": True},
        {**NAME, "patternProperties": {"^x": {}}},
        {**NAME, "required": ["name", "other"]},
        {**NAME, "minProperties": 2},
        {"allOf": [NAME, {"properties": {"age": {}}, "required": ["age"]}]},
        {**NAME, "anyOf": [{"properties": {"age": {}}, "required": ["age"]}]},
        {"properties": {"a": {**NAME, "$ref": "#/$defs/x"}}, "$defs": {"x": {"properties": {"b": {}}}}},
    ],
)  # fmt: skip
def test_what_stays_as_it_is(schema: Any) -> None:
    assert closed(schema) == schema


def test_what_fits_the_closed_schema_fits_the_schema() -> None:
    found = closed(NAME)
    jsonschema.validate({"name": "a"}, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "a", "more": 1}, found)


@pytest.mark.parametrize("odd", [{"minProperties": {}}, {"required": 3}, {"required": [[]]}])
def test_what_is_said_of_no_object_does_not_matter(odd: dict[str, Any]) -> None:
    schema = {"type": "null", "properties": {"a": {}}, **odd}
    assert closed(schema) == schema
