"""What cannot be followed is refused by a stable code that names the keyword and its place."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from hearth.runtime.grammar import Ebnf, GrammarWish, JsonObject, JsonSchema, Regex
from hearth.runtime.grammar.prepare import MOST_TEXT, prepare
from hearth.schemas.errors import HearthError, InputError, MissingError


def refused(wish: GrammarWish) -> HearthError:
    with pytest.raises(InputError) as found:
        prepare(wish)
    return found.value


# The schema, the place of what is wrong, and the keyword there.
FAULTS: list[tuple[Any, str, str]] = [
    ({"type": "text"}, "#", "type"),
    ({"type": "array", "uniqueItems": True}, "#", "uniqueItems"),
    ({"properties": {"a": {"not": {"type": "null"}}}}, "#/properties/a", "not"),
    (
        {"properties": {"a/b~c": {"anyOf": [True, {"contains": {}}]}}},
        "#/properties/a~1b~0c/anyOf/1",
        "contains",
    ),
    ({"items": {"type": "string", "pattern": "("}}, "#/items", "pattern"),
    ({"prefixItems": [{}, {"type": "string", "format": "shape"}]}, "#/prefixItems/1", "format"),
    (
        {"$defs": {"x": {"if": {}}}, "properties": {"y": {"$ref": "#/$defs/x"}}},
        "#/$defs/x",
        "if",
    ),
    ({"properties": {"y": {"$ref": "#/$defs/x"}}}, "#/properties/y", "$ref"),
    ({"$ref": "http://example.com/schema"}, "#", "$ref"),
    ({"type": "integer", "minimum": 4, "maximum": 3}, "#", "minimum"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "#", "oneOf"),
    ({"type": "object", "minProperties": 2}, "#", "minProperties"),
    ({"dependentRequired": {"a": ["b"]}}, "#", "dependentRequired"),
    ({"propertyNames": {"maxLength": 2}}, "#", "propertyNames"),
    ({"enum": []}, "#", "enum"),
    ({"properties": {"n": {"multipleOf": 999983}}}, "#/properties/n", "multipleOf"),
    ({"properties": {"n": {"type": "integer", "const": -1e20}}}, "#/properties/n", "const"),
    ({"enum": [1, {"minimum": -(2**63)}]}, "#", "enum"),
    ({"type": "integer", "maximum": -(2**63)}, "#", "maximum"),
    (False, "#", ""),
]


@pytest.mark.parametrize(("schema", "place", "keyword"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_schema_is_refused_by_keyword_and_place(schema: Any, place: str, keyword: str) -> None:
    error = refused(JsonSchema.of(schema))
    assert (error.code, error.where) == ("grammar.schema", place)
    assert not keyword or repr(keyword) in error.remedy


def chained(count: int) -> dict[str, Any]:
    inner = {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**inner, f"d{count}": {"type": "null"}}}


def test_references_that_lead_deeper_than_the_stack_are_refused() -> None:
    """Thousands of them end the process."""
    prepare(JsonSchema.of(chained(150)))
    for count in (500, 3000):
        assert refused(JsonSchema.of(chained(count))).code == "grammar.schema"


def test_rules_that_lead_deeper_than_the_stack_are_refused() -> None:
    def rules(count: int) -> Ebnf:
        chain = "\n".join(f"a{i}: a{i + 1}" for i in range(count))
        return Ebnf(f'start: a0\n{chain}\na{count}: "x"')

    prepare(rules(900))
    assert refused(rules(10_000)).code == "grammar.ebnf"


def test_large_numbers_may_be_asked_for() -> None:
    prepare(JsonSchema.of({"type": "integer", "minimum": -(2**62), "maximum": 2**63 - 1}))


NESTED = '{"items":' * 300 + "true" + "}" * 300
ENDLESS = '{"items":' * 20_000


@pytest.mark.parametrize(
    "text",
    ["{", "3", '"a"', "", "[]", NESTED, ENDLESS, '{"minimum": 1e999}', '{"const": "\\ud800"}'],
    ids=lambda text: text[:20],
)
def test_a_schema_that_is_no_schema(text: str) -> None:
    assert refused(JsonSchema(text)).code == "grammar.schema"


@pytest.mark.parametrize("text", ["(", "(?=a)b", r"(a)\1", "a{3,2}"])
def test_bad_expressions(text: str) -> None:
    assert refused(Regex(text)).code == "grammar.regex"


# No process lives on that asks llguidance for this.
LOW = 'start: %json {"type": "integer", "const": -100000000000000000000}'


@pytest.mark.parametrize(
    "text", ["", 'start: "a', "start: other", 'root ::= "a" (', "root ::= other", "other: /a/", LOW]
)
def test_bad_grammars(text: str) -> None:
    assert refused(Ebnf(text)).code == "grammar.ebnf"


@pytest.mark.parametrize("wish", [JsonSchema(" " * MOST_TEXT + "{}"), Regex("a" * MOST_TEXT + "b")])
def test_an_enormous_wish_is_not_even_read(wish: GrammarWish) -> None:
    assert refused(wish).code == "grammar.too_complex"


def test_an_option_inside_a_schema_loosens_nothing() -> None:
    schema = {"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}
    assert refused(JsonSchema.of(schema)).code == "grammar.schema"


def test_the_place_in_a_large_schema_is_found_in_bounded_time() -> None:
    many: dict[str, Any] = {f"p{i}": {"type": "string"} for i in range(2000)}
    error = refused(JsonSchema.of({"properties": many | {"bad": {"not": {}}}}))
    assert error.code == "grammar.schema" and error.where.startswith("#")


@pytest.mark.parametrize(
    "wish",
    [
        JsonObject(),
        JsonSchema("true"),
        JsonSchema(json.dumps({"type": "object", "title": "T", "$comment": "c", "default": {}})),
        Regex("a/b"),
        Ebnf("root ::= item+\nitem ::= [a-z]+ ws\nws ::= [ \\t\\n]*"),
        Ebnf('start: "a" | NUMBER\nNUMBER: /[0-9]+/'),
    ],
)
def test_what_can_be_followed(wish: GrammarWish) -> None:
    assert prepare(wish)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingError) as found:
        prepare(JsonObject())
    assert found.value.code == "missing.llguidance"
    assert "hearth[grammar]" in str(found.value)
