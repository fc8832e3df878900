"""A tool that must be called (tool_choice "required", or one by name): the grammar of such answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hearth.runtime.grammar.prepare import check_schema
from hearth.runtime.grammar.wishes import Lark
from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from hearth.runtime.tools.formats import ToolFormat

MOST_CALLS = 16  # of one answer that must call: a model that does not end would go on for ever
ANY_ARGUMENTS: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True)
class Tool:
    """A function that may be called, with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


def read_tools(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Of OpenAI's {"type": "function", "function": {"name", "parameters"}}; InputError `input.tools` for any other."""
    return tuple(_tool(tool, index) for index, tool in enumerate(tools))


def _tool(tool: Any, index: int) -> Tool:
    match tool:
        case {"function": {"name": str(name), **rest}} if name:
            parameters = rest.get("parameters")
            if parameters is None or isinstance(parameters, dict):
                return Tool(name, parameters or ANY_ARGUMENTS)
    raise InputError(
        "input.tools",
        f"tool {index} is {tool!r:.80}",
        expected='{"type": "function", "function": {"name": "...", "parameters": {a JSON schema}}}',
    )


def call_wish(
    format: ToolFormat,
    tools: Sequence[Tool],
    special: Mapping[int, str],
    *,
    parallel: bool = True,
) -> Lark:
    """One call or (`parallel`) up to 16 of the tools given, as the format writes them.

    `special` are the format's marks that are single tokens (`ToolFormat.special_marks`). InputError `grammar.schema`
    names the tool whose arguments cannot be followed, `input.tools` that there is none.
    """
    if not tools:
        raise InputError("input.tools", "there is no such tool to call", expected="at least one")
    for tool in tools:
        check_schema(tool.parameters, f"function {tool.name!r}: parameters")
    ids = {mark: id for id, mark in special.items()}
    opening, closing = (
        f"<[{ids[mark]}]>" if mark in ids else json.dumps(mark)
        for mark in (format.opening, format.closing)
    )
    most = MOST_CALLS if parallel and format.parallel else 1
    rules = [f"start: {_answer(format, opening, closing, most - 1)}"]
    rules.append("call: " + " | ".join(f"call_{i}" for i in range(len(tools))))
    for i, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.name)}, "{format.arguments}": '
        schema = {**tool.parameters, "x-guidance": {"whitespace_pattern": " ?"}}
        rules.append(f'call_{i}: {json.dumps(head)} arguments_{i} "}}"')
        rules.append(f"arguments_{i}: %json {json.dumps(schema)}")
    return Lark("\n".join(rules))


def _answer(format: ToolFormat, opening: str, closing: str, more: int) -> str:
    """`more` further calls at most."""
    if format.bare:
        return "call"
    if format.listed:
        more_calls = _further('", " call', more)
        return f'{opening} "[" call{more_calls} "]"'
    one = f'{opening} "\\n" call "\\n" {closing}'
    return one + _further(f'"\\n" {one}', more)


def _further(rule: str, most: int) -> str:
    return f" ({rule}){{0,{most}}}" if most else ""
