"""The `openai` package's responses: items in, items out, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.serve import KEY

openai = pytest.importorskip("openai", reason="pip install hearth[clients]")

PLACES = {
    "type": "object",
    "properties": {"place": {"enum": ["Rome", "Oslo"]}},
    "required": ["place"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "name": "weather", "parameters": PLACES, "strict": True}
CALL = '<tool_call>\\n\\{"name": "weather", "arguments": \\{"place": "Rome"\\}\\}\\n</tool_call>'


@pytest.fixture(scope="module")
def client(base: str) -> Any:
    return openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)


def respond(client: Any, **fields: Any) -> Any:
    fields = {"model": "tales", "input": "Once upon a time", "temperature": 0, **fields}
    return client.responses.create(**{"max_output_tokens": 8, **fields})


def chat(client: Any, messages: list[Any], **fields: Any) -> str:
    fields = {"model": "tales", "temperature": 0, "max_tokens": 8, **fields}
    found: str = client.chat.completions.create(messages=messages, **fields).choices[0].message
    return found.content or ""  # type: ignore[attr-defined]


def test_a_response_has_the_form_that_the_client_expects(client: Any) -> None:
    found = respond(client, metadata={"a": "b"}, instructions="Be brief.")
    assert (found.object, found.model, found.error) == ("response", "tales", None)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    (message,) = found.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "incomplete")
    assert message.content[0].type == "output_text" and found.output_text
    assert (found.metadata, found.instructions) == ({"a": "b"}, "Be brief.")
    assert (found.temperature, found.max_output_tokens, found.tool_choice) == (0, 8, "auto")
    assert (found.store, found.previous_response_id, found.text.format.type) == (
        False,
        None,
        "text",
    )
    usage = found.usage
    assert usage.output_tokens == 8
    assert usage.total_tokens == usage.input_tokens + 8


def test_it_says_what_a_chat_says(client: Any) -> None:
    """With instructions, earlier turns as messages and as items that are sent back, calls and what came of them."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "user", "content": "Three"},
    ]
    said = {"type": "output_text", "text": "Two", "annotations": [], "logprobs": []}
    items = [
        {"role": "user", "content": "One"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"role": "user", "content": [{"type": "input_text", "text": "Three"}]},
    ]  # fmt: skip
    found = respond(client, instructions="Be brief.", input=items)
    assert found.output_text == chat(client, messages)


def test_the_output_is_the_input_of_the_next_turn(client: Any) -> None:
    """As openai's documentation does without kept responses: its own objects are sent back."""
    asked: list[Any] = [{"role": "user", "content": "Well?"}]
    first = respond(
        client, input=asked, tools=[TOOL], tool_choice="required",
        parallel_tool_calls=False, max_output_tokens=200,
    )  # fmt: skip
    asked += first.output
    (call,) = (item for item in first.output if item.type == "function_call")
    asked.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    second = respond(client, input=asked, tools=[TOOL])
    assert second.output_text
    asked += [*second.output, {"role": "user", "content": "And then?"}]
    assert respond(client, input=asked, tools=[TOOL]).output_text


def streamed(client: Any, **fields: Any) -> tuple[list[Any], Any]:
    events = list(respond(client, stream=True, **fields))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events, events[-1].response


def test_a_stream_says_what_the_whole_response_says(client: Any) -> None:
    whole = respond(client)
    events, found = streamed(client)
    assert [event.type for event in events[:4]] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert [event.type for event in events[-4:]] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-4].text == found.output_text == whole.output_text
    assert len(deltas) > 2
    assert found.usage.output_tokens == whole.usage.output_tokens
    assert events[0].response.status == "in_progress" and events[0].response.output == []


def test_calls_are_streamed_as_they_are_written(client: Any) -> None:
    how = {"tools": [TOOL], "tool_choice": "required", "max_output_tokens": 200}
    whole = respond(client, **how)
    events, found = streamed(client, **how)
    assert whole.status == found.status == "completed"
    calls = [item for item in found.output if item.type == "function_call"]
    assert calls and len(calls) == len(found.output)
    assert [(call.name, call.arguments) for call in calls] == [
        (call.name, call.arguments) for call in whole.output
    ]
    added = [event for event in events if event.type == "response.output_item.added"]
    assert all((event.item.name, event.item.arguments) == ("weather", "") for event in added)
    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    for index, call in enumerate(calls):
        mine = [event.delta for event in deltas if event.output_index == index]
        assert "".join(mine) == call.arguments and len(mine) > 2
        assert json.loads(call.arguments)["place"] in ("Rome", "Oslo")
        assert {event.item_id for event in deltas if event.output_index == index} == {call.id}


def test_a_text_and_then_a_call(client: Any) -> None:
    """The regular expression stands in for a model that was trained to call."""
    how = {"tools": [TOOL], "max_output_tokens": 120, "extra_body": {"regex": f"Well\\. {CALL}"}}
    for found in (respond(client, **how), streamed(client, **how)[1]):
        message, call = found.output
        assert (message.type, message.content[0].text, found.output_text) == (
            "message",
            "Well.",
            "Well.",
        )
        assert (call.type, call.name) == ("function_call", "weather")
        assert json.loads(call.arguments) == {"place": "Rome"}
        assert {item.status for item in found.output} == {"completed"}


def test_a_tool_is_called_by_name(client: Any) -> None:
    tools = [{"type": "function", "name": "other"}, TOOL]
    choice = {"type": "function", "name": "weather"}
    found = respond(client, tools=tools, tool_choice=choice, max_output_tokens=200)
    assert [item.name for item in found.output] == ["weather"]


def test_text_has_the_form_asked_for(client: Any) -> None:
    form = {"type": "json_schema", "name": "place", "schema": PLACES, "strict": True}
    found = respond(client, text={"format": form}, max_output_tokens=100)
    assert found.status == "completed"
    assert json.loads(found.output_text)["place"] in ("Rome", "Oslo")


def test_openai_s_helpers(client: Any) -> None:
    """Its parser of answers into a class, and its stream that gathers events."""
    pydantic = pytest.importorskip("pydantic")
    place = pydantic.create_model("Place", place=(str, pydantic.Field(pattern="^(Rome|Oslo)$")))
    found = client.responses.parse(model="tales", input="Well?", text_format=place)
    assert found.output_parsed.place in ("Rome", "Oslo")
    how = {"model": "tales", "input": "Well?", "tools": [TOOL], "tool_choice": "required"}
    whole = client.responses.create(**how, extra_body={"seed": 5})
    with client.responses.stream(**how, extra_body={"seed": 5}) as stream:
        snapshots = [event.snapshot for event in stream if event.type.endswith("arguments.delta")]
        found = stream.get_final_response()
    assert found.status == "completed"
    assert [item.arguments for item in found.output] == [item.arguments for item in whole.output]
    assert snapshots[-1] == found.output[-1].arguments


def test_async(base: str) -> None:
    async def ask() -> list[str]:
        client = openai.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0)
        how: Any = {"model": "tales", "input": "Well?", "max_output_tokens": 4}
        return [event.type async for event in await client.responses.create(**how, stream=True)]

    assert asyncio.run(ask())[0] == "response.created"


@pytest.mark.parametrize(
    ("fields", "parameter", "code"),
    [
        ({"store": True}, "store", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_parameter"),
        ({"top_logprobs": 2}, "top_logprobs", "unsupported_parameter"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": [{"role": "robot", "content": ""}]}, "input[0].role", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"extra_body": {"messages": []}}, "messages", "unknown_parameter"),
        ({"input": "word " * 40_000}, "input", "context_length_exceeded"),
        ({"model": "nobody"}, "model", "model_not_found"),
    ],
)
def test_what_is_refused_is_named(client: Any, fields: Any, parameter: str, code: str) -> None:
    with pytest.raises(openai.APIStatusError) as found:
        respond(client, **fields)
    assert (found.value.param, found.value.code) == (parameter, code)


def test_what_changes_nothing_is_taken(client: Any) -> None:
    fields = {"store": False, "include": ["reasoning.encrypted_content"], "truncation": "disabled"}
    fields |= {"reasoning": {"effort": "low"}, "service_tier": "auto", "user": "me"}
    assert respond(client, **fields).output_text == respond(client).output_text
