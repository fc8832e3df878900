"""Schemas by keyword, as JSON-Schema-Test-Suite groups them: what constrained output must be able to follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
WORD = {"type": "string", "maxLength": 12}
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


def record(properties: Mapping[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    """An object without other properties; all required unless some are named."""
    names = list(required) if required else list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
        **more,
    }


def some(items: Any, least: int = 0, most: int = 3, **more: Any) -> dict[str, Any]:
    """A short array."""
    return {"type": "array", "items": items, "minItems": least, "maxItems": most, **more}


def named(*names: str) -> dict[str, Any]:
    return {"enum": list(names)}


def short_map(values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values, "maxProperties": 2}


def real(low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high}


def spelled(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$"}


STRINGS: list[Schema] = [
    {"type": "string", "maxLength": 0},
    {"type": "string", "maxLength": 1},
    {"type": "string", "maxLength": 20},
    {"type": "string", "minLength": 1, "maxLength": 5},
    {"type": "string", "minLength": 5, "maxLength": 5},
    {"type": "string", "minLength": 30, "maxLength": 40},
    *({"type": "string", "pattern": pattern} for pattern in (
        "^a$", "^[a-z]{3,8}$", "^[A-Z][a-z]{1,9}$", "^(red|green|blue)$", "^[0-9]{4}-[0-9]{2}$", r"^\d{3}$",
        r"^\w{2,6}$", "^[^a-z]{2,4}$", "^x?y{0,2}z$", r"^\$[0-9]{1,3}\.[0-9]{2}$", "^é{1,3}$", "^[ж-я]{2,5}$",
        r"^\S{1,6}$", r"^a\\b$", '^"q"$', r"^[a-f0-9]{8}$", "^(ab){1,3}$", "^.{1,4}$", r"^\(\d{3}\) \d{4}$",
    )),
    *({"type": "string", "format": name} for name in (
        "date", "time", "date-time", "ipv4", "ipv6", "uuid", "hostname",
    )),
    {"type": "string", "pattern": "^[a-z]*$", "maxLength": 6},
    {"type": "string", "pattern": "b", "maxLength": 4},
    {"type": "string", "format": "duration", "maxLength": 12},
]  # fmt: skip

NUMBERS: list[Schema] = [
    *({"type": "integer", "minimum": low, "maximum": high} for low, high in (
        (0, 0), (0, 9), (-5, 5), (-20, -10), (1, 12), (1900, 2100), (-100, 100), (99, 101), (0, 255), (0, 1_000_000),
        (-1, 0), (123456, 123460),
    )),
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
    {"type": "integer", "exclusiveMinimum": -3, "maximum": 0},
    {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
    {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 50},
    {"type": "integer", "minimum": 100},
    {"type": "integer", "maximum": -100},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "minimum": -1.5, "maximum": 1.5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "minimum": 0.5},
    {"type": "number", "maximum": 273.15},
    {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 10},
    {"type": ["integer", "null"], "minimum": 3, "maximum": 5},
]  # fmt: skip

FIXED: list[Schema] = [
    *({"const": value} for value in (
        None, True, False, 0, -1, 1.5, 1e10, "", "a", "two words", 'a "quote"', "back\\slash", "line\nbreak", "日本語",
        "🙂", [], {}, [1, "a", None], {"a": {"b": [True]}}, "é́",
    )),
    *({"enum": values} for values in (
        ["one"], ["one", "two", "three"], [1, 2, 3], [None, False, 0, ""], ["a", "ab", "abc"], [[], [0], {}],
        [1, "1"], ["日本", "中国", "한국"], [0.1, 0.2], [{"type": "a"}, {"type": "b"}],
    )),
    {"type": "string", "enum": ["x", "y"]},
    {"type": "integer", "const": 7},
]  # fmt: skip

ARRAYS: list[Schema] = [
    *({"type": "array", "items": items, "maxItems": 4} for items in (
        {"type": "boolean"}, {"type": "null"}, DIGIT, WORD, named("a", "b"), some(DIGIT, 0, 2), record({"n": DIGIT}),
    )),
    *(some(DIGIT, least, most) for least, most in ((0, 0), (1, 1), (2, 2), (0, 1), (3, 5), (1, 6), (10, 10))),
    {"type": "array", "prefixItems": [DIGIT, WORD], "items": False},
    {"type": "array", "prefixItems": [DIGIT, WORD], "minItems": 2, "maxItems": 2},
    {"type": "array", "prefixItems": [named("GET", "PUT"), WORD], "items": DIGIT, "minItems": 2, "maxItems": 5},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "maxItems": 4},
    some(some(some(DIGIT, 1, 2), 1, 2), 1, 2),
    some({"anyOf": [DIGIT, WORD]}, 1, 4),
    some({"type": ["boolean", "null"]}, 2, 3),
    {"type": "array", "maxItems": 2, "items": {"type": "string", "format": "ipv4"}},
    {"items": DIGIT, "type": "array", "maxItems": 3},
]  # fmt: skip

OBJECTS: list[Schema] = [
    record({"a": DIGIT}),
    record({"a": DIGIT, "b": WORD}),
    record({"a": DIGIT, "b": WORD, "c": {"type": "boolean"}}, "b"),
    {"type": "object", "properties": {"a": DIGIT, "b": WORD}, "additionalProperties": False},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "object", "properties": {"a": DIGIT}, "required": ["a"], "maxProperties": 1},
    short_map(DIGIT),
    {"minProperties": 1, **short_map(DIGIT)},
    {"properties": {"kind": named("x")}, "required": ["kind"], **short_map(DIGIT)},
    {"type": "object", "required": ["free"], "additionalProperties": DIGIT, "maxProperties": 1},
    {"patternProperties": {"^n_[a-z]{1,3}$": DIGIT}, **short_map(False)},
    {"patternProperties": {"^s$": WORD, "^i$": DIGIT}, **short_map(False)},
    record({"a": {"type": "null"}}),
    record({"with space": DIGIT, "": DIGIT, "a/b": DIGIT, "~": DIGIT, '"': DIGIT}),
    record({"größe": DIGIT, "名前": WORD, "🙂": {"type": "boolean"}}),
    record({"a": record({"b": record({"c": record({"d": DIGIT})})})}),
    record({"list": some(record({"x": DIGIT, "y": DIGIT}), 1, 3)}),
    record({"matrix": some(some(DIGIT, 2, 2), 2, 2)}),
    record({"on": {"type": "boolean"}, "level": {"type": "integer", "minimum": 1, "maximum": 3}}, "on"),
    record({f"p{i}": {"type": "boolean"} for i in range(9)}),
    record({f"p{i}": {"type": "boolean"} for i in range(8)}, "p7"),
    {"type": "object", "properties": {"a": {"const": 1}, "b": False}, "required": ["a"], "additionalProperties": False},
    {"title": "T", "description": "d", "$comment": "c", "examples": [1], "default": {}, **record({"a": DIGIT})},
]  # fmt: skip

COMBINED: list[Schema] = [
    {"anyOf": [DIGIT, WORD]},
    {"anyOf": [{"type": "null"}, record({"a": DIGIT})]},
    {"anyOf": [{"const": 1}, {"const": "one"}, {"const": [1]}]},
    {"anyOf": [some(DIGIT, 1, 2), some(WORD, 1, 2)]},
    {"anyOf": [record({"a": DIGIT}), record({"b": DIGIT})]},
    {"type": "string", "anyOf": [{"const": "a"}, {"pattern": "^b{1,3}$"}]},
    {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "boolean"}]},
    {"oneOf": [{"const": "a"}, {"const": "b"}]},
    {"oneOf": [{"type": "null"}, WORD]},
    {
        "oneOf": [
            record({"kind": {"const": "circle"}, "radius": DIGIT}),
            record({"kind": {"const": "square"}, "side": DIGIT}),
        ]
    },
    {"oneOf": [some({"const": 1}, 1, 2), record({"a": {"const": 1}})]},
    {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 5}]},
    {"allOf": [{"type": "string", "maxLength": 8}, {"pattern": "^[a-c]*$"}]},
    {"allOf": [{"type": "string", "maxLength": 8}, {"minLength": 4}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": DIGIT}, "required": ["a"]},
            {"properties": {"b": WORD}, "required": ["b"]},
        ],
        "maxProperties": 2,
    },
    {"allOf": [{"enum": [1, 2, 3]}, {"type": "integer", "minimum": 2}]},
    {"allOf": [{"$ref": "#/$defs/base"}], "$defs": {"base": record({"id": DIGIT})}},
    {"anyOf": [{"anyOf": [{"const": 1}, {"const": 2}]}, {"const": 3}]},
    {"type": ["integer", "string", "null"], "maximum": 9, "minimum": 0, "maxLength": 6},
    {"type": ["boolean", "null"]},
    {"type": ["array", "boolean"], "items": DIGIT, "maxItems": 2},
    record({"value": {"anyOf": [DIGIT, {"type": "null"}], "default": None, "title": "Value"}}),
    some({"oneOf": [DIGIT, {"type": "boolean"}]}, 1, 4),
]

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": record(
            {"v": DIGIT, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}
        )
    },
}
REFERENCES: list[Schema] = [
    {"$ref": "#/$defs/a", "$defs": {"a": DIGIT}},
    {"$ref": "#/definitions/a", "definitions": {"a": WORD}},
    record({"a": {"$ref": "#/$defs/d"}, "b": {"$ref": "#/$defs/d"}}, **{"$defs": {"d": DIGIT}}),
    some({"$ref": "#/$defs/x"}, 1, 3, **{"$defs": {"x": named("p", "q")}}),
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": DIGIT}},
    {"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": DIGIT}},
    {"$ref": "#/$defs/per%25cent", "$defs": {"per%cent": {"type": "boolean"}}},
    TREE,
    record({"a": DIGIT, "b": {"$ref": "#/properties/a"}}),
    {"type": "array", "items": {"$ref": "#/$defs/pair"}, "maxItems": 2, "$defs": {"pair": some(DIGIT, 2, 2)}},
    {"$ref": "#/$defs/a", "description": "beside it", "$defs": {"a": WORD}},
    {"$ref": "#/$defs/a", "maximum": 3, "$defs": {"a": DIGIT}},
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/person",
        **record({"name": WORD, "parent": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/short"}]}}),
        "$defs": {"short": record({"name": WORD})},
    },
]  # fmt: skip

STORIES: list[Schema] = [  # as programs ask for them
    record({"name": WORD, "age": {"type": "integer", "minimum": 0, "maximum": 120}, "tags": some(WORD, 0, 3)}),
    record({"sentiment": named("positive", "negative", "neutral"), "score": real(0, 1)}),
    record({"title": WORD, "chapters": some(record({"title": WORD, "pages": DIGIT}), 1, 2)}),
    record({"id": {"type": "string", "format": "uuid"}, "when": {"type": "string", "format": "date"}}),
    record({"status": {"enum": [200, 404, 500]}, "body": {"type": ["string", "null"], "maxLength": 15}}),
    record({"steps": some({"type": "string", "minLength": 1, "maxLength": 15}, 1, 3), "answer": WORD}),
    record({"entities": some(record({"text": WORD, "label": named("PERSON", "PLACE")}), 0, 3)}),
    record({"email": spelled(r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)"), "ok": {"type": "boolean"}}),
    record({"lat": real(-90, 90), "lon": real(-180, 180)}),
    record({"color": spelled("#[0-9a-f]{6}"), "size": named("S", "M", "L")}),
    record({"from": WORD, "items": some(record({"sku": spelled(r"[A-Z]{2}\d{4}"), "n": DIGIT}), 1, 2)}),
    record({"yes": {"type": "boolean"}, "why": {"type": "string", "maxLength": 30}}, "yes"),
    record({"语言": named("中文", "English"), "文": {"type": "string", "maxLength": 10}}),
    record({"a": {"anyOf": [record({"t": {"const": "s"}, "v": WORD}), record({"t": {"const": "n"}, "v": DIGIT})]}}),
]  # fmt: skip

GROUPS: Mapping[str, list[Schema]] = {
    "type": [
        *({"type": name} for name in ("null", "boolean", "integer", "number", "string")),
        *({"type": [name, "null"], "maxLength": 9, "maxItems": 2, "maxProperties": 2, "items": DIGIT,
           "additionalProperties": DIGIT} for name in TYPES if name != "null"),
        {"type": "array"}, {"type": "object"}, {"type": [*TYPES], "items": DIGIT},
    ],
    "string": STRINGS,
    "number": NUMBERS,
    "enum and const": FIXED,
    "array": ARRAYS,
    "object": OBJECTS,
    "anyOf, oneOf, allOf": COMBINED,
    "$ref": REFERENCES,
    "asked for by programs": STORIES,
}  # fmt: skip
