"""A tool that must be called (tool_choice "required", or one by name): the grammar of such answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hearth.runtime.grammar.closed import closed
from hearth.runtime.grammar.prepare import check_schema
from hearth.runtime.grammar.wishes import Lark
from hearth.runtime.tools.tool import Tool
from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from hearth.runtime.tools.formats import ToolFormat

MOST_CALLS = 16  # of one answer that must call: a model that does not end would go on for ever


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
    tools = [replace(tool, parameters=closed(tool.parameters)) for tool in tools]
    ids = {mark: id for id, mark in special.items()}

    def mark(text: str) -> str:
        return f"<[{ids[text]}]>" if text in ids else json.dumps(text)

    most = MOST_CALLS if parallel and format.parallel else 1
    rules = [f"start: {_answer(format, mark(format.opening), mark(format.closing), most - 1)}"]
    rules.append("call: " + " | ".join(f"call_{i}" for i in range(len(tools))))
    for i, tool in enumerate(tools):
        rules += format.style.rules(i, tool, mark)
    return Lark("\n".join(rules))


def _answer(format: ToolFormat, opening: str, closing: str, more: int) -> str:
    """`more` further calls at most."""
    if format.bare:
        return "call"
    if format.style.listed:
        more_calls = _further('", " call', more)
        return f'{opening} "[" call{more_calls} "]"'
    if not format.closing:
        return f"{opening} call" + _further(f"{opening} call", more)
    one = f'{opening} "\\n" call "\\n" {closing}'
    return one + _further(f'"\\n" {one}', more)


def _further(rule: str, most: int) -> str:
    return f" ({rule}){{0,{most}}}" if most else ""
