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
    made,
    refused,
    tagged,
    text,
    word,
)

Message = Mapping[str, Any]
MOST_MESSAGES = 4096
TEXT_ALONE = "this model reads text alone"


def _said_by(role: str) -> Any:
    """A message of this role in the words of templates, whatever the client calls it."""
    return lambda **values: {**values, "role": role}


CACHED = ignored("cache_control", any_value(), "Anthropic's, which LiteLLM passes on")


def _part(name: str) -> Kind:
    return record((required("type", word(name)), required("text", text()), CACHED), dict)


REFUSED_PARTS = ("image_url", "input_audio", "file")
PARTS = tagged(
    "type",
    {"text": _part("text"), **dict.fromkeys(REFUSED_PARTS, refused(TEXT_ALONE))},
)
CONTENT = either((str, text()), (list, listing(PARTS, 1)))

FUNCTION = record((required("name", text(1, 256)), required("arguments", text())), dict)
CALL = record(
    (
        required("id", text(1)), required("type", word("function")), required("function", FUNCTION),
        ignored("index", any_value(), "of a call that was put together from a stream"),
        ignored("provider_specific_fields", any_value()),
    ),
    dict,
)  # fmt: skip


def _message(role: str, as_role: str, *fields: Any) -> Kind:
    named = (required("role", word(role)), *fields, field("name", text(1, 256)), CACHED)
    return record(named, _said_by(as_role))


# What a client that sends an answer back as it came has in it, too.
SENT_BACK = (
    "annotations", "audio", "function_call", "parsed", "images", "provider_specific_fields", "reasoning",
    "reasoning_details", "thinking_blocks",
)  # fmt: skip
MESSAGES: Mapping[str, Kind] = MappingProxyType(
    {
        "system": _message("system", "system", required("content", CONTENT)),
        "developer": _message("developer", "system", required("content", CONTENT)),
        "user": _message("user", "user", required("content", CONTENT)),
        "assistant": _message(
            "assistant",
            "assistant",
            field("content", CONTENT),
            field("tool_calls", made(listing(CALL), lambda calls: calls or None)),
            field("refusal", text()),
            field("reasoning_content", text(), "thoughts, which some templates read"),
            *(ignored(name, any_value()) for name in SENT_BACK),
        ),
        "tool": _message(
            "tool", "tool", required("content", CONTENT), required("tool_call_id", text(1))
        ),
        "function": refused("use the role tool"),
    }
)
CONVERSATION = listing(tagged("role", MESSAGES), 1, MOST_MESSAGES)
