"""Requests to frozen dataclasses: each kind of value, each place that a refusal names, and the schema."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.generation.writing import Full
from hearth.runtime.grammar import Ebnf, JsonObject, JsonSchema, Lark, Regex
from hearth.runtime.serving.openai.asked import StreamOptions, ToolChoice
from hearth.runtime.serving.openai.requests import (
    CHAT_KIND,
    COMPLETION_KIND,
    EMBEDDING_KIND,
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
    ({"regex": "a+"}, "form", Regex("a+")),
    ({"grammar": "start: x"}, "form", Ebnf("start: x")),
    ({"response_format": {"type": "text"}}, "form", None),
    ({"response_format": {"type": "json_object"}}, "form", JsonObject()),
    ({"response_format": SCHEMA}, "form", JsonSchema('{"type": "object"}', closed=True)),
    (
        {"stream": True, "stream_options": {"include_usage": True}},
        "stream_options",
        StreamOptions(True),
    ),
    ({"guided_json": {"type": "object"}}, "form", JsonSchema('{"type": "object"}', closed=True)),
    ({"guided_json": '{"type": "object"}'}, "form", JsonSchema('{"type": "object"}', closed=True)),
    ({"guided_regex": "a+"}, "form", Regex("a+")),
    ({"guided_grammar": "start: x"}, "form", Ebnf("start: x")),
    ({"guided_choice": ["a", 'b"']}, "form", Lark('start: "a" | "b\\""')),
    ({"structured_outputs": {"choice": ["a"]}}, "form", Lark('start: "a"')),
    (
        {"structured_outputs": {"json": {}, "whitespace_pattern": " "}},
        "form",
        JsonSchema("{}", closed=True),
    ),
    ({"structured_outputs": {"json_object": True}}, "form", JsonObject()),
    ({"response_format": {"type": "text"}, "regex": "a"}, "form", Regex("a")),
    ({"repeat_penalty": 1.1}, "repetition_penalty", 1.1),
    ({"top_k": -1}, "top_k", -1),
    ({"context_full": "slide"}, "context_full", Full.SLIDE),
    ({"enable_thinking": False}, "variables", {"enable_thinking": False}),
    ({"chat_template_kwargs": {"a": 1}}, "variables", {"a": 1}),
    ({"top_logprobs": 0}, "top_logprobs", 0),
    ({"chat_id": "x", "features": {}, "thinking": {"type": "disabled"}, "store": 3}, "n", 1),
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
    ({"context_full": "forget"}, "context_full"),
    ({"guided_choice": []}, "guided_choice"),
    ({"structured_outputs": {"xml": "a"}}, "structured_outputs.xml"),
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


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"regex": "a", "grammar": "b"}, "grammar"),
        ({"regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"repetition_penalty": 1.1, "repeat_penalty": 1.1}, "repeat_penalty"),
    ],
)
def test_what_says_the_same_thing_is_given_once(given: dict[str, Any], place: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_chat({**BODY, **given})
    assert caught.value.parameter == place and "only one" in caught.value.message
