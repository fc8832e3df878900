"""Calls as Mistral's newer templates have them: a name, a mark, the arguments as JSON, call after call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hearth.runtime.tools.json_calls import object_of, schema_rule, unterminated
from hearth.runtime.tools.style import (
    Begins,
    Begun,
    Calls,
    Mark,
    NewId,
    ToolCall,
    all_calls,
    tool_call,
)
from hearth.runtime.tools.tool import Tool


@dataclass(frozen=True)
class NamedCalls:
    """`name[ARGS]{...}`, with `[CALL_ID]id` before the arguments where a model writes ids; `opening` parts calls."""

    opening: str = "[TOOL_CALLS]"
    arguments: str = "[ARGS]"
    call_id: str = "[CALL_ID]"
    listed: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Both are special tokens of the models that write them."""
        return (self.arguments, self.call_id)

    @property
    def begins(self) -> Begins:
        """A name between the two marks."""
        return self._begins

    def _begins(self, text: str) -> Begun | None:
        head, mark, rest = text.partition(self.arguments)
        name = head.rpartition(self.opening)[2]
        return Begun(name, len(head) + len(mark)) if rest.startswith("{") else None

    def read(self, body: str, tools: Mapping[str, Tool], new_id: NewId) -> Calls:
        """Every part between two openings must be a call."""
        return all_calls([self._call(part, new_id) for part in body.split(self.opening)])

    def breaks_off(self, body: str) -> bool:
        """Inside a string of the arguments."""
        return unterminated(body.rpartition(self.arguments)[2])

    def rules(self, number: int, tool: Tool, mark: Mark) -> list[str]:
        """The name, the mark, JSON that fits the schema."""
        return [
            f"call_{number}: {json.dumps(tool.name)} {mark(self.arguments)} arguments_{number}",
            schema_rule(number, tool),
        ]

    def _call(self, part: str, new_id: NewId) -> ToolCall | None:
        head, mark, text = part.partition(self.arguments)
        name, _, given = head.partition(self.call_id)
        name, arguments = name.strip(), object_of(text)
        if not mark or not name or arguments is None:
            return None
        return tool_call(given.strip() or new_id(), name, arguments)
