"""Tools that are offered, and which of them must be called."""

from __future__ import annotations

from typing import Any

from hearth.runtime.serving.openai.asked import ToolChoice
from hearth.runtime.serving.openai.fields import field, ignored, record, required
from hearth.runtime.serving.openai.kinds import (
    Kind,
    boolean,
    either,
    made,
    mapping,
    refused,
    tagged,
    text,
    word,
    wrong,
)
from hearth.runtime.serving.openai.values import NAME


def _function_name() -> Kind:
    kind = text(1, 64)

    def read(value: Any, place: str) -> str:
        name: str = kind.read(value, place)
        if not all(each.isascii() and (each.isalnum() or each in "_-") for each in name):
            wrong(place, name, "letters, digits, _ and -")
        return name

    return Kind(read, {**kind.schema, "pattern": "^[a-zA-Z0-9_-]+$"})


FUNCTION_FIELDS = (
    required("name", _function_name()),
    field("description", text()),
    field("parameters", mapping()),
    ignored("strict", boolean(), "arguments keep their schema where a call is required"),
)
FUNCTION = record(FUNCTION_FIELDS, dict)
TOOL = tagged(
    "type",
    {
        "function": record(
            (required("type", word("function")), required("function", FUNCTION)), dict
        ),
        "custom": refused("give functions"),
    },
)
FUNCTION_CHOICE = record(
    (
        required("type", word("function")),
        required("function", record((required("name", NAME),), dict)),
    ),
    lambda type, function: ToolChoice("required", function["name"]),
)
TOOL_CHOICE = either(
    (str, made(word("none", "auto", "required"), ToolChoice)),
    (
        dict,
        tagged(
            "type",
            {
                "function": FUNCTION_CHOICE,
                "allowed_tools": refused("give the tools that are allowed alone"),
                "custom": refused("give functions"),
            },
        ),
    ),
)
