"""A tool that was offered: its name, and the schema of its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.schemas.errors import InputError

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
