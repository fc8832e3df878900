"""Requests to frozen dataclasses: each kind of value, each place that a refusal names, and the schema."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.grammar import Ebnf, JsonObject, JsonSchema, Regex
from hearth.runtime.serving.openai.requests import (
    CHAT_KIND,
    COMPLETION_KIND,
    EMBEDDING_KIND,
    StreamOptions,
    ToolChoice,
    read_chat,
    read_completion,
    read_embedding,
)
from hearth.runtime.serving.refusals import Refusal

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}

GOOD: list[tuple[dict[str, Any], str, Any]] = [
    ({"temperature": 1}, "temperature", 1.0),
    ({"max_tokens": 5.0}, "max_tokens", 5),
    ({"max_tokens": None}, "max_tokens", None),
    ({"stop": "x"}, "stop", ("x",)),
    ({"stop": ["x", "y"]}, "stop", ("x", "y")),
    ({"logit_bias": {"7": -100, "8": 2.5}}, "logit_bias", ((7, -100.0), (8, 2.5))),
    ({"seed": -1}, "seed", 2**64 - 1),
    ({"adapter": "a"}, "adapter", AdapterUse("a")),
    ({"adapter": {"name": "a", "scale": 0.5}}, "adapter", AdapterUse("a", 0.5)),
    ({"regex": "a+"}, "regex", Regex("a+")),
    ({"grammar": "start: x"}, "grammar", Ebnf("start: x")),
    ({"response_format": {"type": "text"}}, "response_format", None),
    ({"response_format": {"type": "json_object"}}, "response_format", JsonObject()),
    ({"response_format": SCHEMA}, "response_format", JsonSchema('{"type": "object"}')),
    (
        {"stream": True, "stream_options": {"include_usage": True}},
        "stream_options",
        StreamOptions(True),
    ),
    ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice", ToolChoice("auto")),
    ({"tools": [TOOL], "tool_choice": TOOL}, "tool_choice", ToolChoice("required", "f")),
    (
        {"messages": [{"role": "developer", "content": "x"}]},
        "messages",
        ({"role": "system", "content": "x"},),
    ),
    ({"user": "u", "metadata": {"a": "b"}, "store": True}, "n", 1),
]


@pytest.mark.parametrize(("given", "name", "expected"), GOOD)
def test_a_field_is_read(given: dict[str, Any], name: str, expected: Any) -> None:
    body = {**BODY, **given}
    assert getattr(read_chat(body), name) == expected
    jsonschema.validate(body, CHAT_KIND.schema)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": None}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"temperature": True}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"stop": 3}, "stop"),
    ({"stop": ["a", 1]}, "stop[1]"),
    ({"logit_bias": []}, "logit_bias"),
    ({"logit_bias": {"-1": 0}}, "logit_bias.-1"),
    ({"stream": 1}, "stream"),
    ({"adapter": {"scale": 1}}, "adapter.name"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
    ),
    ({"no_such": 1}, "no_such"),
]


@pytest.mark.parametrize(("given", "place"), BAD)
def test_a_bad_field_is_refused_by_its_place_and_by_the_schema(
    given: dict[str, Any], place: str
) -> None:
    body = {**BODY, **given}
    with pytest.raises(Refusal) as caught:
        read_chat(body)
    assert (caught.value.status, caught.value.parameter) == (400, place)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, CHAT_KIND.schema)


def test_prompts_are_texts_or_ids() -> None:
    for given, expected in [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ]:
        assert read_completion({"model": "m", "prompt": given}).prompt == expected
        assert read_embedding({"model": "m", "input": given}).input == expected
        jsonschema.validate({"model": "m", "prompt": given}, COMPLETION_KIND.schema)
    for given in ("3", [], [[]], [1, "a"], ["a", [1]], {}, 3, [-1], [True]):
        if given != "3":
            with pytest.raises(Refusal):
                read_embedding({"model": "m", "input": given})
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({"model": "m", "input": given}, EMBEDDING_KIND.schema)
