"""Items of the Responses API as messages of a chat, and what its answers repeat."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from hearth.runtime.generation.writing import Full
from hearth.runtime.grammar import JsonObject, JsonSchema
from hearth.runtime.serving.openai.asked import ToolChoice
from hearth.runtime.serving.openai.response_fields import RESPONSE_KIND, read_response
from hearth.runtime.serving.refusals import Refusal

BODY: dict[str, Any] = {"model": "m", "input": "Hi"}
SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def called(id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}


def call(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


PARTS = [
    {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
    {"type": "refusal", "refusal": "b"},
]
MESSAGES: list[tuple[Any, list[dict[str, Any]]]] = [
    ("Hi", [user("Hi")]),
    ([user("Hi")], [user("Hi")]),
    ([{"type": None, **user("Hi")}], [user("Hi")]),
    ([{"type": "message", "role": "developer", "content": "d"}], [{"role": "system", "content": "d"}]),
    (
        [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": PARTS}],
        [{"role": "assistant", "content": ({"type": "text", "text": "a"}, {"type": "text", "text": "b"})}],
    ),
    (  # calls after a text are of the same message, and so are several
        [{"role": "assistant", "content": "a"}, called("1"), called("2"),
         {"type": "function_call_output", "call_id": "1", "output": "x"}, called("3")],
        [{"role": "assistant", "content": "a", "tool_calls": [call("1"), call("2")]},
         {"role": "tool", "tool_call_id": "1", "content": "x"},
         {"role": "assistant", "content": None, "tool_calls": [call("3")]}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("items", "messages"), MESSAGES)
def test_items_as_messages(items: Any, messages: list[dict[str, Any]]) -> None:
    body = {**BODY, "input": items}
    assert list(read_response(body).messages) == messages
    jsonschema.validate(body, RESPONSE_KIND.schema)


def test_instructions_come_first() -> None:
    found = read_response({**BODY, "instructions": "Be brief."})
    assert found.messages == ({"role": "system", "content": "Be brief."}, user("Hi"))


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"max_output_tokens": 5}, "limit", 5),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, "form", None),
        ({"text": {"format": {"type": "json_object"}}}, "form", JsonObject()),
        ({"text": {"format": SCHEMA}}, "form", JsonSchema('{"type": "object"}', closed=True)),
        ({"truncation": "auto"}, "context_full", Full.SLIDE),
        ({"truncation": "disabled"}, "context_full", None),
        ({"tool_choice": "none"}, "tool_choice", ToolChoice("none")),
        ({"top_k": 3}, "top_k", 3),
        ({"store": False, "background": None}, "n", 1),
        (
            {"tools": [{"type": "function", "name": "f", "strict": True}]},
            "tools",
            ({"type": "function", "function": {"name": "f"}},),
        ),
    ],
)
def test_fields(fields: dict[str, Any], name: str, value: Any) -> None:
    body = {**BODY, **fields}
    assert getattr(read_response(body), name) == value
    jsonschema.validate(body, RESPONSE_KIND.schema)


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"store": True}, "store"),
        ({"store": "no"}, "store"),
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"n": 2}, "n"),
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{"type": "reasoning"}]}, "input[0].type"),
        ({"input": [{**user("Hi"), "name": "x"}]}, "input[0].name"),
        ({"input": [user("Hi"), {"type": "function_call", "name": "f"}]}, "input[1].call_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": SCHEMA}, "regex": "a"}, "regex"),
        ({"truncation": "auto", "context_full": "stop"}, "context_full"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
    ],
)  # fmt: skip
def test_what_is_refused(fields: dict[str, Any], parameter: str) -> None:
    with pytest.raises(Refusal) as found:
        read_response({**BODY, **fields})
    assert (found.value.status, found.value.parameter) == (400, parameter)


def test_an_answer_repeats_what_was_asked_or_what_holds() -> None:
    tool = {"type": "function", "name": "f", "parameters": None}
    repeated = read_response({**BODY, "tools": [tool], "temperature": 0.5, "top_p": None}).repeated
    assert (repeated["tools"], repeated["temperature"], repeated["top_p"]) == ([tool], 0.5, None)
    assert (repeated["tool_choice"], repeated["parallel_tool_calls"]) == ("auto", True)
