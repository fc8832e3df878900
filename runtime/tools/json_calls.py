"""Calls as most models write them, as JSON: objects with a name and an object of arguments."""

from __future__ import annotations

import ast
import json
import re
import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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

NAME_KEYS = ("name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")
WRITTEN = re.compile(r"\s*\w+\.call\(")
BETWEEN = re.compile(r"[\s;,]*")  # what models put between calls that follow each other
LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class JsonCalls:
    """{"name": ..., ARGUMENTS: {...}}, one or more; `listed`: in a JSON list."""

    arguments: str = "arguments"
    listed: bool = False
    marks: tuple[str, ...] = ()

    @property
    def begins(self) -> Begins:
        """An object up to its arguments."""
        return self._begins

    def _begins(self, text: str) -> Begun | None:
        found = re.search(rf'{{"name": (".*?"), "{self.arguments}": (?={{)', text, re.DOTALL)
        return found and Begun(json.loads(found[1]), found.end())

    def read(self, body: str, tools: Mapping[str, Tool], new_id: NewId) -> Calls:
        """Each value an object or a list of them."""
        return read_calls(body, new_id)

    def breaks_off(self, body: str) -> bool:
        """Inside a string."""
        return unterminated(body)

    def rules(self, number: int, tool: Tool, mark: Mark) -> list[str]:
        """An object whose arguments fit the schema."""
        head = f'{{"name": {json.dumps(tool.name)}, "{self.arguments}": '
        return [
            f'call_{number}: {json.dumps(head)} arguments_{number} "}}"',
            schema_rule(number, tool),
        ]


def schema_rule(number: int, tool: Tool) -> str:
    """The rule of a call's arguments."""
    schema = {**tool.parameters, "x-guidance": {"whitespace_pattern": " ?"}}
    return f"arguments_{number}: %json {json.dumps(schema)}"


def random_id() -> str:
    """Nine letters and digits: what Mistral's templates insist on, and fine for all others."""
    return "".join(secrets.choice(LETTERS) for _ in range(9))


def read_calls(text: str, new_id: NewId) -> Calls:
    """The calls of one or more JSON values, each an object or a list of them; None where the text is anything else."""
    try:
        objects = [item for value in _values(text) for item in _listed(value)]
    except ValueError:
        return _written_call(text, new_id)
    return all_calls([_call(value, new_id) for value in objects])


def unterminated(text: str) -> bool:
    """Whether the JSON breaks off inside a string, so that what follows may belong to it."""
    try:
        list(_values(text))
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string")
    except ValueError:
        return False
    return False


def _values(text: str) -> Iterator[Any]:
    """The JSON values of a text that holds nothing else; ValueError where it does."""
    decoder, position = json.JSONDecoder(strict=False), _skip(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except RecursionError:
            raise ValueError("nested beyond measure") from None
        yield value
        position = _skip(text, position)


def _skip(text: str, position: int) -> int:
    found = BETWEEN.match(text, position)
    return found.end() if found else position


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else (value,)


def _call(value: Any, new_id: NewId) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    name = next((value[key] for key in NAME_KEYS if key in value), None)
    given = next((value[key] for key in ARGUMENT_KEYS if key in value), None)
    arguments = object_of(given)
    if not isinstance(name, str) or not name or arguments is None:
        return None
    id = value.get("id")
    return tool_call(id if isinstance(id, str) and id else new_id(), name, arguments)


def object_of(value: Any) -> dict[str, Any] | None:
    """Arguments, which some models write as JSON inside a string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _written_call(text: str, new_id: NewId) -> Calls:
    """Llama 3's form for built-in tools: brave_search.call(query="...")."""
    if not WRITTEN.match(text):
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        match tree:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="call"), args=[]):
                values = {word.arg or "": ast.literal_eval(word.value) for word in tree.keywords}
                return None if "" in values else all_calls([tool_call(new_id(), name, values)])
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return None
