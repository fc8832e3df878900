"""Calls out of an answer as it comes: what may begin a call is held back, what turns out to be none is text."""

from __future__ import annotations

from collections.abc import Collection

from hearth.runtime.tools.formats import ToolFormat
from hearth.runtime.tools.json_calls import random_id
from hearth.runtime.tools.style import Calls, NewId, ToolCall
from hearth.runtime.tools.tool import Tool

Found = tuple[str, tuple[ToolCall, ...]]


class ToolParser:
    """`push` each piece, then `flush`: text that is safe to give out, and the calls that are complete.

    White space around calls belongs to no text. Some formats need the schemas of the `tools` offered; a bare call
    (without a mark before it) of another tool is text. A malformed call is text, its marks included.
    """

    def __init__(
        self, format: ToolFormat, tools: Collection[Tool] = (), new_id: NewId = random_id
    ) -> None:
        self._format, self._new_id = format, new_id
        self._tools = {tool.name: tool for tool in tools}
        self._held = ""  # of the text: what may begin a call; of a call: all, with its opening
        self._tried = 0  # closings up to here stand inside strings
        self._inside = self._any_text = self._any_call = False

    def push(self, piece: str) -> Found:
        """The next piece of the answer."""
        self._held += piece
        texts: list[str] = []
        calls: list[ToolCall] = []
        while True:
            text, found, again = self._inner() if self._inside else self._outer()
            texts.append(self._given(text))
            calls.extend(found)
            if not again:
                return "".join(texts), tuple(calls)

    def flush(self) -> Found:
        """What was held back, when the answer ends."""
        held, self._held = self._held, ""
        inside, self._inside = self._inside, False
        calls = self._calls(held) if inside else None
        if calls is not None:
            self._any_call = True
            return "", calls
        return ("" if self._any_call and not held.strip() else self._given(held)), ()

    def _outer(self) -> tuple[str, tuple[ToolCall, ...], bool]:
        """Text, up to a call's opening."""
        held, opening = self._held, self._format.opening
        place = held.find(opening)
        if self._is_bare(held):
            place = 0
        self._inside = place >= 0
        end = place if self._inside else len(held) - _open_length(held, opening)
        text = held[:end].rstrip()
        self._held = held[len(text) :]
        return text, (), self._inside

    def _is_bare(self, held: str) -> bool:
        first = not self._any_text and not self._any_call
        return self._format.bare and first and held.lstrip().startswith("{")

    def _inner(self) -> tuple[str, tuple[ToolCall, ...], bool]:
        """A call, up to its closing; without one it goes on to the end."""
        closing = self._format.closing
        while closing and (place := self._held.find(closing, self._tried)) >= 0:
            self._tried = place + len(closing)
            whole = self._held[: self._tried]
            calls = self._calls(whole)
            if calls is not None or not self._format.style.breaks_off(self._body(whole)):
                self._held, self._tried, self._inside = self._held[self._tried :], 0, False
                self._any_call |= calls is not None
                return (whole, (), True) if calls is None else ("", calls, True)
        return "", (), False

    def _calls(self, whole: str) -> Calls:
        calls = self._format.style.read(self._body(whole), self._tools, self._new_id)
        marked = whole.lstrip().startswith(self._format.opening)
        if calls and not marked and any(call.name not in self._tools for call in calls):
            return None
        return calls

    def _body(self, whole: str) -> str:
        return whole.strip().removeprefix(self._format.opening).removesuffix(self._format.closing)

    def _given(self, text: str) -> str:
        """White space alone is no text after a call."""
        if self._any_call and not text.strip():
            return ""
        self._any_text = self._any_text or bool(text.strip())
        return text


def _open_length(text: str, opening: str) -> int:
    """Length of the longest end of the text that begins the opening."""
    most = min(len(opening) - 1, len(text))
    return next((n for n in range(most, 0, -1) if text.endswith(opening[:n])), 0)
