"""An answer that must call: every way through the grammar is a call of a tool that was offered."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from support.calling import END, LETTERS, answer, reader

from hearth.runtime.grammar import Grammars
from hearth.runtime.tools import FORMATS, ToolFormat, ToolParser, call_wish, read_tools
from hearth.schemas.errors import InputError

XML = next(format for format in FORMATS if format.name == "qwen-xml")
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
# A string that is written as it is may be anything, so random letters would go on for long.
PLAIN = {"type": "function", "function": {"name": "say", "parameters": {
    "type": "object",
    "properties": {"tone": {"enum": ["soft", "loud"]}, "loud": {"type": "boolean"}, "why": {"const": "so"}},
    "required": ["tone"],
}}}  # fmt: skip


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_every_answer_is_a_call(format: ToolFormat, special: bool) -> None:
    tools = TOOLS if format.name != "qwen-xml" else [TOOLS[0], PLAIN]
    schemas = {tool.name: tool.parameters for tool in read_tools(tools)}
    several = 0
    for seed in range(12):
        text = answer(format, special, tools, seed)
        parser = ToolParser(format, read_tools(tools))
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
        parser = ToolParser(format, read_tools(TOOLS))
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


def test_strings_are_written_as_they_are_in_xml() -> None:
    words = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    wish = call_wish(XML, read_tools([{"function": {"name": "say", "parameters": words}}]), {})
    constraint = Grammars(reader(False), END + 1, (END,)).constraint(wish)
    said = 'a "b" <c> {d}\\'
    text = (
        "<tool_call>\n<function=say>\n<parameter=text>\n"
        f"{said}\n</parameter>\n</function>\n</tool_call>"
    )
    mark = len(LETTERS)
    for id in (mark, *(LETTERS.index(letter) for letter in text.removeprefix("<tool_call>"))):
        constraint.accept(id)
    assert constraint.complete
    parser = ToolParser(XML, read_tools([{"function": {"name": "say", "parameters": words}}]))
    calls = parser.push(text)[1] + parser.flush()[1]
    assert [json.loads(call.arguments) for call in calls] == [{"text": said}]


def test_only_the_texts_of_an_enum_are_written_in_xml() -> None:
    words = {"type": "object", "properties": {"a": {"type": "string", "enum": [1, "b", None]}}}
    wish = call_wish(XML, read_tools([{"function": {"name": "f", "parameters": words}}]), {})
    assert '("b")' in wish.text
    Grammars(reader(False), END + 1, (END,)).constraint(wish)


def test_a_schema_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(InputError) as found:
        call_wish(FORMATS[0], read_tools([{"function": {"name": "f", "parameters": deep}}]), {})
    assert found.value.code == "grammar.schema"


@pytest.mark.parametrize(
    "parameters",
    [
        {"enum": [{"a": 1}]},
        *(
            {"properties": {"a": {"type": "string", **words}}}
            for words in (
                {"pattern": "x"},
                {"not": {"const": "x"}},
                {"const": 5},
                {"enum": [1, 2]},
                {"enum": ["x"], "const": "y"},
                {"minLength": 5, "maxLength": 2},
            )
        ),
    ],
)
def test_what_xml_cannot_say_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError) as found:
        call_wish(XML, read_tools([{"function": {"name": "f", "parameters": parameters}}]), {})
    assert found.value.code == "grammar.schema" and "'f'" in (found.value.where or "")
