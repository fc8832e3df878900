"""Messages of a chat as OpenAI's clients send them, checked field by field, as a chat template reads them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hearth.runtime.serving.openai.fields import field, ignored, record, required
from hearth.runtime.serving.openai.kinds import (
    Kind,
    any_value,
    either,
    listing,
    refused,
    tagged,
    text,
    word,
)

Message = Mapping[str, Any]
MOST_MESSAGES = 4096
TEXT_ALONE = "this model reads text alone"


def _object(**values: Any) -> dict[str, Any]:
    return values


def _said_by(role: str) -> Any:
    """A message of this role in the words of templates, whatever the client calls it."""
    return lambda **values: {**values, "role": role}


def _part(name: str) -> Kind:
    return record((required("type", word(name)), required("text", text())), _object)


REFUSED_PARTS = ("image_url", "input_audio", "file")
PARTS = tagged(
    "type",
    {"text": _part("text"), **dict.fromkeys(REFUSED_PARTS, refused(TEXT_ALONE))},
)
CONTENT = either((str, text()), (list, listing(PARTS, 1)))

FUNCTION = record((required("name", text(1, 256)), required("arguments", text())), _object)
CALL = record(
    (required("id", text(1)), required("type", word("function")), required("function", FUNCTION)),
    _object,
)


def _message(role: str, as_role: str, *fields: Any) -> Kind:
    named = (required("role", word(role)), *fields, field("name", text(1, 256)))
    return record(named, _said_by(as_role))


MESSAGES: Mapping[str, Kind] = MappingProxyType(
    {
        "system": _message("system", "system", required("content", CONTENT)),
        "developer": _message("developer", "system", required("content", CONTENT)),
        "user": _message("user", "user", required("content", CONTENT)),
        "assistant": _message(
            "assistant",
            "assistant",
            field("content", CONTENT),
            field("tool_calls", listing(CALL, 1)),
            field("refusal", text()),
            # what a client that sends an answer back as it came has in it
            ignored("annotations", any_value()),
            ignored("audio", any_value()),
            ignored("function_call", any_value()),
        ),
        "tool": _message(
            "tool", "tool", required("content", CONTENT), required("tool_call_id", text(1))
        ),
        "function": refused("use the role tool"),
    }
)
CONVERSATION = listing(tagged("role", MESSAGES), 1, MOST_MESSAGES)
