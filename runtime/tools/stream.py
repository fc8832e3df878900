"""Calls of an answer that must call, while they are written: its grammar leaves no way for one to turn out none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from hearth.runtime.tools.json_calls import random_id
from hearth.runtime.tools.style import Begins, NewId, ToolCall

if TYPE_CHECKING:
    from hearth.runtime.tools.formats import ToolFormat
    from hearth.runtime.tools.tool import Tool


@dataclass(frozen=True)
class Arguments:
    """More of the arguments of the call before it."""

    text: str


Part = ToolCall | Arguments
Parts = tuple[str, tuple[Part, ...]]


class CallReader(Protocol):
    """What finds calls in an answer as it comes: those that are complete, or all as they are written."""

    def push(self, piece: str) -> Parts:
        """The next piece of the answer: its text, and what is there of calls."""

    def flush(self) -> Parts:
        """What was held back, when the answer ends."""


def whole_calls(parts: Sequence[Part]) -> tuple[ToolCall, ...]:
    """The calls that parts are."""
    calls: list[ToolCall] = []
    texts: list[list[str]] = []
    for part in parts:
        match part:
            case ToolCall():
                calls.append(part)
                texts.append([part.arguments])
            case Arguments(text):
                texts[-1].append(text)
    return tuple(
        replace(call, arguments="".join(each)) for call, each in zip(calls, texts, strict=True)
    )


class CallStream:
    """`push` each piece, then `flush`, of an answer under `call_wish`, in a format whose arguments are JSON objects.

    A call comes with its name, without arguments; these follow as they are written. What is cut short before a
    name is left out; after it, the call has what there is of its arguments.
    """

    def __init__(self, begins: Begins, new_id: NewId = random_id) -> None:
        self._begins, self._new_id = begins, new_id
        self._held = ""  # since the last arguments: the beginning of a call, or what ends one
        self._object: _Object | None = None

    def push(self, piece: str) -> Parts:
        """The next piece of the answer."""
        self._held += piece
        parts: list[Part] = []
        while self._held:
            if self._object is None:
                begun = self._begins(self._held)
                if begun is None:
                    break
                parts.append(ToolCall(self._new_id(), begun.name, ""))
                self._held, self._object = self._held[begun.end :], _Object()
            else:
                end = self._object.end(self._held)
                parts.append(Arguments(self._held[:end]))
                self._held = self._held[end:]
                self._object = None if self._object.over else self._object
        return "", tuple(parts)

    def flush(self) -> Parts:
        """Nothing is held back that is any of a call's."""
        return "", ()


class _Object:
    """A JSON object whose text comes in pieces."""

    def __init__(self) -> None:
        self._depth, self._in_string, self._escaped = 0, False, False
        self.over = False

    def end(self, text: str) -> int:
        """How much of the next piece belongs to it."""
        for place, letter in enumerate(text):
            self._read(letter)
            if self.over:
                return place + 1
        return len(text)

    def _read(self, letter: str) -> None:
        if self._in_string:
            self._in_string = self._escaped or letter != '"'
            self._escaped = letter == "\\" and not self._escaped
        elif letter == '"':
            self._in_string = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
            self.over = self._depth == 0


def call_stream(format: ToolFormat, tools: Sequence[Tool]) -> CallStream | None:
    """None where arguments are known when a call has ended: no JSON as they are written, or maybe no object."""
    begins = format.style.begins
    objects = all(tool.parameters.get("type") == "object" for tool in tools)
    return CallStream(begins) if begins is not None and objects else None
