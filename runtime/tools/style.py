"""How calls are written between their marks: what each format of the table has of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hearth.runtime.tools.tool import Tool

NewId = Callable[[], str]
Mark = Callable[[str], str]  # a mark in the grammar: its text, or the special token that it is


@dataclass(frozen=True)
class ToolCall:
    """`arguments` is the JSON text of an object, as OpenAI's API gives it."""

    id: str
    name: str
    arguments: str


Calls = tuple[ToolCall, ...] | None  # None: the text is none


@dataclass(frozen=True)
class Begun:
    """A call's name, and where in the text its arguments begin."""

    name: str
    end: int


Begins = Callable[[str], Begun | None]


def tool_call(id: str, name: str, arguments: Mapping[str, Any]) -> ToolCall | None:
    """None where JSON cannot hold the arguments (infinities) or UTF-8 any of it (half of a surrogate pair)."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        f"{id}{name}{text}".encode()
    except (ValueError, TypeError, RecursionError):
        return None
    return ToolCall(id, name, text)


def all_calls(found: Sequence[ToolCall | None]) -> Calls:
    """Some calls, where every part of a text is one."""
    calls = tuple(call for call in found if call is not None)
    return calls if calls and len(calls) == len(found) else None


class Style(Protocol):
    """One way of writing calls."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks within a call."""

    @property
    def listed(self) -> bool:
        """Whether several calls stand in one JSON list."""

    @property
    def begins(self) -> Begins | None:
        """Finds a call in a text that `rules` allows, up to its arguments; None where these are no JSON."""

    def read(self, body: str, tools: Mapping[str, Tool], new_id: NewId) -> Calls:
        """The calls that a text is, and nothing else."""

    def breaks_off(self, body: str) -> bool:
        """Whether the text ends inside of a value, so that a closing mark after it belongs to the value."""

    def rules(self, number: int, tool: Tool, mark: Mark) -> list[str]:
        """Lark rules of a call of this tool, the first of which is `call_NUMBER`.

        InputError `grammar.schema` where its arguments cannot be followed.
        """
