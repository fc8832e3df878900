"""Messages as OpenAI's API has them, in the form that chat templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]


def template_messages(messages: Sequence[Message]) -> list[Message]:
    """The same messages: arguments of calls as objects, not JSON text; contents as one text, "" beside calls.

    Templates write arguments with `tojson` (transformers asks for objects), and most join a content to a text. What
    has another form is left to the template.
    """
    return [_message(message) if isinstance(message, Mapping) else message for message in messages]


def _message(message: Message) -> Message:
    changed = dict(message)
    if "content" in message:
        changed["content"] = _content(message["content"])
    calls = message.get("tool_calls")
    if isinstance(calls, list | tuple):
        changed["tool_calls"] = [_call(call) for call in calls]
        if changed.get("content") is None:
            changed["content"] = ""
    return changed


def _content(content: Any) -> Any:
    """A list of text parts as the lines that they are."""
    parts = content if isinstance(content, list | tuple) else None
    if not parts or not all(_is_text(part) for part in parts):
        return content
    return "\n".join(part["text"] for part in parts)


def _is_text(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
    )


def _call(call: Any) -> Any:
    match call:
        case {"function": {"arguments": str(text), **function}, **rest}:
            return {**rest, "function": {**function, "arguments": _arguments(text)}}
    return call


def _arguments(text: str) -> Any:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
