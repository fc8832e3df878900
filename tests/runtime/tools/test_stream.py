"""Calls that are given while they are written are the calls that the whole answer holds."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from support.calling import answer, cut

from hearth.runtime.tools import (
    FORMATS,
    Arguments,
    Part,
    ToolCall,
    ToolFormat,
    ToolParser,
    call_stream,
    read_tools,
    whole_calls,
)
from hearth.runtime.tools.stream import CallStream
from hearth.runtime.tools.style import Begun

BY_NAME = {format.name: format for format in FORMATS}
STREAMED = [format for format in FORMATS if format.style.begins is not None]
TEXT = {"type": "object", "properties": {"text": {"type": "string"}, "list": {"type": "array"}}}
SMALL = {
    "type": "object",
    "properties": {"unit": {"enum": ["C", "F"]}, "n": {"type": "integer", "maximum": 9}},
    "required": ["unit"],
}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": SMALL}}]
TOOL = {"type": "function", "function": {"name": 'odd "name"', "parameters": TEXT}}
ARGUMENTS = '{"text": "a \\"}{[ \\\\","list":[{}, [1e3], "]}"]}'


def read(format: ToolFormat, pieces: list[str]) -> list[Part]:
    tools = read_tools([TOOL])
    stream = call_stream(format, tools)
    assert stream is not None
    found = [*(stream.push(piece) for piece in pieces), stream.flush()]
    assert not any(text for text, _ in found)
    return [part for _, parts in found for part in parts]


def written(format: ToolFormat, arguments: str) -> str:
    """Two calls, where the format has several."""
    json_call = f'{{"name": "odd \\"name\\"", "ARGUMENTS": {arguments}}}'
    return {
        "hermes": "\n".join([f"<tool_call>\n{json_call}\n</tool_call>"] * 2),
        "llama3": json_call,
        "mistral": f"[TOOL_CALLS][{json_call}, {json_call}]",
        "mistral-named": f'[TOOL_CALLS]odd "name"[ARGS]{arguments}' * 2,
    }[format.name].replace("ARGUMENTS", getattr(format.style, "arguments", ""))


@pytest.mark.parametrize("format", STREAMED, ids=lambda format: format.name)
@pytest.mark.parametrize("arguments", [ARGUMENTS, "{}"])
def test_a_name_comes_first_and_then_arguments_as_they_are_written(
    format: ToolFormat, arguments: str
) -> None:
    text = written(format, arguments)
    count = 2 if format.parallel else 1
    for seed in range(20):
        parts = read(format, cut(text, random.Random(seed)))
        assert isinstance(parts[0], ToolCall)
        assert all(part.arguments == "" for part in parts if isinstance(part, ToolCall))
        calls = whole_calls(parts)
        assert [(call.name, call.arguments) for call in calls] == [
            ('odd "name"', arguments)
        ] * count
        assert len({call.id for call in calls}) == count
    letters = read(format, list(text))
    pieces = [part.text for part in letters if isinstance(part, Arguments)]
    assert pieces == list(arguments) * count  # nothing of them waits


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("format", STREAMED, ids=lambda format: format.name)
def test_every_answer_that_must_call_reads_the_same(format: ToolFormat, special: bool) -> None:
    """At any length, it has the calls that the whole one has so far."""
    for seed in range(8):
        text = answer(format, special, TOOLS, seed)
        parser = ToolParser(format, read_tools(TOOLS))
        expected = parser.push(text)[1] + parser.flush()[1]
        calls = whole_calls(read(format, cut(text, random.Random(seed))))
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [
            (call.name, json.loads(call.arguments)) for call in expected
        ]
        assert all(call.arguments in text for call in calls)
        short = whole_calls(read(format, [text[: len(text) // 2]]))
        for one, whole in zip(short, calls, strict=False):
            assert (one.name, whole.arguments[: len(one.arguments)]) == (whole.name, one.arguments)


def test_what_is_cut_short_before_a_name_is_left_out() -> None:
    assert read(BY_NAME["hermes"], ['<tool_call>\n{"name": "odd']) == []


@pytest.mark.parametrize(
    ("format", "parameters"),
    [
        ("qwen-xml", TEXT),  # its arguments are no JSON
        ("hermes", {"enum": ["no object"]}),
    ],
)
def test_arguments_that_are_known_at_the_end_alone(format: str, parameters: Any) -> None:
    tools = read_tools([{"function": {"name": "f", "parameters": parameters}}])
    assert call_stream(BY_NAME[format], tools) is None


def test_a_call_s_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its arguments, nothing of them is kept and looked at again."""
    seen: list[int] = []

    def begins(text: str) -> Begun | None:
        seen.append(len(text))
        return Begun("f", 1) if text.startswith("!") else None

    stream = CallStream(begins)
    for piece in ["!", "{", *('"' + "x" * 50 + '",' for _ in range(200)), "}"]:
        stream.push(piece)
    assert seen == [1]
