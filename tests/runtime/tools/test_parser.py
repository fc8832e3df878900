"""Calls out of answers, however they are cut into pieces: held back, parsed, or given as the text they are."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from support.calling import cut

from hearth.runtime.tools import FORMATS, ToolCall, ToolParser, read_tools
from hearth.runtime.tools.json_calls import random_id
from hearth.runtime.tools.style import Calls, NewId, Style
from hearth.runtime.tools.tool import Tool

BY_NAME = {format.name: format for format in FORMATS}
TOOLS = read_tools(
    [
        {"function": {"name": "get", "parameters": {"properties": {"city": {"type": "string"}}}}},
        {"function": {"name": "other", "parameters": {"properties": {"n": {"type": "integer"}}}}},
    ]
)
CALL = '{"name": "get", "arguments": {"city": "Zürich"}}'
OTHER = '{"name": "other", "arguments": {"n": 2}}'
TRAP = '{"name": "get", "arguments": {"x": "a</tool_call>b<tool_call>"}}'
LLAMA = '{"name": "get", "parameters": {"city": "Zürich"}}'
GOT = ("get", {"city": "Zürich"})


def xml(name: str, **values: str) -> str:
    """A call as Qwen3-Coder's template writes it."""
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"


# (format, answer, text, calls)
ANSWERS = [
    ("hermes", f"<tool_call>\n{CALL}\n</tool_call>", "", [GOT]),
    ("hermes", f"<tool_call>{CALL}</tool_call>", "", [GOT]),
    ("hermes", f"Let me see.\n\n<tool_call>\n{CALL}\n</tool_call>", "Let me see.", [GOT]),
    (
        "hermes",
        f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{OTHER}\n</tool_call>\n",
        "",
        [GOT, ("other", {"n": 2})],
    ),
    ("hermes", f"<tool_call>{TRAP}</tool_call>", "", [("get", json.loads(TRAP)["arguments"])]),
    ("hermes", f"<tool_call>{CALL}", "", [GOT]),  # the end token came instead of the closing
    ("hermes", f"a <tool_call>{CALL}</tool_call> b", "a b", [GOT]),
    ("hermes", '<tool_call>{"name": "get", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("get", {"a": 1})]),
    ("hermes", "<tool_call>\n[" + CALL + "]\n</tool_call>", "", [GOT]),
    ("llama3", LLAMA, "", [GOT]),
    ("llama3", f"\n\n{LLAMA}\n", "", [GOT]),
    ("llama3", f"<|python_tag|>{LLAMA}", "", [GOT]),
    ("llama3", f"<|python_tag|>{LLAMA}; {LLAMA}", "", [GOT, GOT]),
    ("llama3", '<|python_tag|>brave_search.call(query="a b")', "", [("brave_search", {"query": "a b"})]),
    ("mistral", f"[TOOL_CALLS] [{CALL}, {OTHER}]", "", [GOT, ("other", {"n": 2})]),
    ("mistral", f"[TOOL_CALLS][{CALL}]", "", [GOT]),
    ("mistral-named", '[TOOL_CALLS]get[ARGS]{"city": "Zürich"}', "", [GOT]),
    ("mistral-named", 'So:[TOOL_CALLS]get[ARGS]{"city": "Zürich"}[TOOL_CALLS]other[ARGS]{"n": 2}', "So:",
     [GOT, ("other", {"n": 2})]),
    ("mistral-named", '[TOOL_CALLS]other[CALL_ID]abc[ARGS]{"n": 2}', "", [("other", {"n": 2})]),
    ("qwen-xml", xml("get", city="Zürich"), "", [GOT]),
    ("qwen-xml", f"Well. {xml('get', city='Zürich')}\n{xml('other', n='2')}", "Well.", [GOT, ("other", {"n": 2})]),
    ("qwen-xml", xml("get", city="a\n</tool_call>\n b"), "", [("get", {"city": "a\n</tool_call>\n b"})]),
    ("qwen-xml", xml("get", city="a </function>\nb"), "", [("get", {"city": "a </function>\nb"})]),
    ("qwen-xml", xml("get", city="12"), "", [("get", {"city": "12"})]),
    ("qwen-xml", xml("get"), "", [("get", {})]),
    ("qwen-xml", xml("other", n="two"), "", [("other", {"n": "two"})]),
    ("qwen-xml", xml("unknown", a="1"), "", [("unknown", {"a": "1"})]),
]  # fmt: skip
# What is none of the format's calls comes out as it went in.
TEXTS = [
    ("hermes", "An answer without a call."),
    ("hermes", "  1 < 2 <tool and <tool_cal  "),
    ("hermes", "<tool_call>\n{bad json}\n</tool_call>"),
    ("hermes", "so \n <tool_call> {} </tool_call> and on \n"),
    ("hermes", '<tool_call>{"name": "get"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "", "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "get", "arguments": [1]}</tool_call>'),
    ("hermes", '<tool_call>{"name": "get", "arguments": "{"}</tool_call>'),
    ("hermes", f"<tool_call>{CALL} and more</tool_call>"),
    ("hermes", '<tool_call>{"name": "get", "arguments": {"a": "no end'),
    ("hermes", f"<tool_call>{'[' * 100_000}</tool_call>"),
    ("hermes", "<tool_call></tool_call>"),
    ("hermes", ""),
    ("llama3", '{"name": "Bob", "age": 3}'),
    ("llama3", '{"name": "not_offered", "parameters": {}}'),
    ("llama3", f"The call is {LLAMA}"),
    ("llama3", "<|python_tag|>import os; os.system('true')"),
    ("llama3", "<|python_tag|>x.call(1)"),
    ("llama3", "{"),
    ("mistral", "[TOOL_CALLS] nothing"),
    ("mistral-named", "[TOOL_CALLS]get"),
    ("mistral-named", '[TOOL_CALLS]get[ARGS]{"city": '),
    ("qwen-xml", "<tool_call>\n<function=get>\n<parameter=city>\nno end"),
    ("qwen-xml", "<tool_call>\n<function=get>\nplain\n</function>\n</tool_call>"),
    ("qwen-xml", "<tool_call>\n<function=get></function> more\n</tool_call>"),
    ("qwen-xml", "<function=get></function>"),
    ("qwen-xml", xml("other", n="NaN")),
    (
        "qwen-xml",
        f"<tool_call>\n<function=get>\n{'<parameter=a>' * 20_000}</function>\n</tool_call>",
    ),
    ("qwen-xml", f"<tool_call>\n<function=get>\n{' ' * 200_000}x</function>\n</tool_call>"),
    ("mistral", "[TOOL"),
    # what a client's JSON, or UTF-8, could not hold
    ("hermes", '<tool_call>{"name": "other", "arguments": {"n": NaN}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "other", "arguments": {"n": 1e999}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "get", "arguments": {"city": "\\ud800"}}</tool_call>'),
    ("mistral-named", '[TOOL_CALLS]get[ARGS]{"city": "\\ud800"}'),
    ("llama3", "<|python_tag|>x.call(n=1e999)"),
    ("llama3", "<|python_tag|>x.call(**{1: 2})"),
]


def parse(format: str, pieces: list[str]) -> tuple[list[str], list[ToolCall]]:
    parser = ToolParser(BY_NAME[format], TOOLS, lambda: "id")
    found = [*(parser.push(piece) for piece in pieces), parser.flush()]
    return [text for text, _ in found], [call for _, calls in found for call in calls]


@pytest.mark.parametrize(("format", "answer", "text", "calls"), ANSWERS)
def test_calls_however_they_are_cut(
    format: str, answer: str, text: str, calls: list[tuple[str, dict[str, object]]]
) -> None:
    for seed in range(10):
        texts, found = parse(format, cut(answer, random.Random(seed)))
        assert "".join(texts) == text
        assert [(call.name, json.loads(call.arguments)) for call in found] == calls


@pytest.mark.parametrize(("format", "answer"), TEXTS, ids=lambda value: value[:40])
def test_what_is_no_call_is_text(format: str, answer: str) -> None:
    for seed in range(10):
        pieces = cut(answer, random.Random(seed)) if len(answer) < 1000 else [answer]
        texts, found = parse(format, pieces)
        assert ("".join(texts), found) == (answer, [])


def test_text_is_not_held_back_longer_than_it_may_begin_a_call() -> None:
    parser = ToolParser(BY_NAME["hermes"])
    assert parser.push("Hello") == ("Hello", ())
    assert parser.push(" wor") == (" wor", ())
    assert parser.push(" <tool") == ("", ())
    assert parser.push("box> ") == (" <toolbox>", ())
    assert parser.push("end") == (" end", ())


def test_a_call_comes_as_soon_as_it_is_closed() -> None:
    parser = ToolParser(BY_NAME["hermes"], new_id=lambda: "one")
    assert parser.push(f"<tool_call>{CALL}") == ("", ())
    text, calls = parser.push("</tool_call>\n")
    assert (text, calls) == ("", (ToolCall("one", "get", '{"city": "Zürich"}'),))
    assert parser.flush() == ("", ())


@dataclass
class Counted:
    """A style that counts what it reads."""

    style: Style
    bodies: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.style, name)

    def read(self, body: str, tools: Mapping[str, Tool], new_id: NewId) -> Calls:
        self.bodies.append(body)
        return self.style.read(body, tools, new_id)


@pytest.mark.parametrize(
    ("format", "begin"),
    [
        ("hermes", '<tool_call>{"name": "get", "arguments": {"city": "'),
        ("qwen-xml", "<tool_call>\n<function=get>\n<parameter=city>\n"),
    ],
)
def test_closings_inside_a_value_are_tried_once_each(format: str, begin: str) -> None:
    """A model that writes nothing else any more would hold up all others."""
    style = Counted(BY_NAME[format].style)
    parser = ToolParser(replace(BY_NAME[format], style=style), TOOLS)  # type: ignore[arg-type]
    for piece in (begin, *["</tool_call>"] * 100):
        assert parser.push(piece) == ("", ())
    assert len(style.bodies) == 100


def test_ids_are_the_models_own_or_new() -> None:
    given = '[TOOL_CALLS][{"name": "a", "arguments": {}, "id": "123456789"}, {"name": "a", "arguments": {}}]'
    _, (first, second) = parse("mistral", [given])
    assert (first.id, second.id) == ("123456789", "id")
    ids = {random_id() for _ in range(100)}
    assert len(ids) == 100 and {len(id) for id in ids} == {9} and all(id.isalnum() for id in ids)
