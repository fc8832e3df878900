"""An answer that must call: every way through the grammar is a call of a tool that was offered."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from hearth.runtime.grammar import Grammars
from hearth.runtime.tokenizer import Tokenizer as Reader
from hearth.runtime.tools import FORMATS, ToolFormat, ToolParser, call_wish, read_tools
from hearth.schemas.errors import InputError

LETTERS = [chr(code) for code in range(32, 127)] + ["\n"]
END = len(LETTERS) + 1
REFERS = {
    "type": "object",
    "$defs": {"unit": {"enum": ["C", "F"]}},
    "properties": {"unit": {"$ref": "#/$defs/unit"}, "n": {"type": "integer", "maximum": 9, "minimum": 0}},
    "required": ["unit"],
    "additionalProperties": False,
}  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": REFERS}},
    {"type": "function", "function": {"name": 'odd "name"', "parameters": {"enum": [{"a": 1}]}}},
]


@cache
def reader(special: bool) -> Reader:
    """Letters, a token for Hermes' opening that is special or not, and an end."""
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(LETTERS)}, merges=[]))
    backend.decoder = decoders.Fuse()
    add = backend.add_special_tokens if special else backend.add_tokens
    add([AddedToken("<tool_call>", special=special)])
    backend.add_special_tokens([AddedToken("<end>")])
    return Reader(backend, {})


def answer(
    format: ToolFormat, special: bool, tools: list[dict[str, Any]], seed: int, **how: bool
) -> str:
    """Random tokens of those allowed."""
    tokenizer, draw = reader(special), random.Random(seed)
    marks = format.special_marks(tokenizer)
    wish = call_wish(format, read_tools(tools), marks, **how)
    constraint = Grammars(tokenizer, END + 1, (END,)).constraint(wish)
    ids: list[int] = []
    while not constraint.done:
        words = constraint.allowed()
        allowed = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
        ids.append(int(draw.choice(allowed)))
        constraint.accept(ids[-1])
    return format.decode(tokenizer)([id for id in ids if id != END])


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_every_answer_is_a_call(format: ToolFormat, special: bool) -> None:
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}  # type: ignore[index]
    several = 0
    for seed in range(12):
        text = answer(format, special, TOOLS, seed)
        parser = ToolParser(format, set(schemas))
        pushed, flushed = parser.push(text), parser.flush()
        assert pushed[0] + flushed[0] == "", text
        calls = pushed[1] + flushed[1]
        assert calls
        for call in calls:
            jsonschema.validate(json.loads(call.arguments), schemas[call.name])
        several += len(calls) > 1
    assert bool(several) == format.parallel


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_one_call_where_several_are_not_wanted(format: ToolFormat) -> None:
    for seed in range(8):
        parser = ToolParser(format, {"get_weather"})
        text = answer(format, False, TOOLS[:1], seed, parallel=False)
        calls = parser.push(text)[1] + parser.flush()[1]
        assert [call.name for call in calls] == ["get_weather"]


def test_a_tool_without_parameters_takes_any_object() -> None:
    (tool,) = read_tools([{"type": "function", "function": {"name": "f"}}])
    assert tool.parameters == {"type": "object"}


@pytest.mark.parametrize(
    "tool",
    [
        {},
        3,
        {"function": {}},
        {"function": {"name": ""}},
        {"function": {"name": "f", "parameters": 3}},
    ],
)
def test_what_is_no_tool(tool: Any) -> None:
    with pytest.raises(InputError) as found:
        read_tools([tool])
    assert found.value.code == "input.tools"


def test_a_schema_that_cannot_be_followed_names_its_tool() -> None:
    bad = {"properties": {"a": {"not": {}}}}
    tools = read_tools(
        [{"function": {"name": "fine"}}, {"function": {"name": "f", "parameters": bad}}]
    )
    with pytest.raises(InputError) as found:
        call_wish(FORMATS[0], tools, {})
    assert found.value.code == "grammar.schema"
    assert found.value.where == "function 'f': parameters #/properties/a"
    with pytest.raises(InputError) as found:
        call_wish(FORMATS[0], (), {})
    assert found.value.code == "input.tools"
