"""Items of a conversation as the Responses API has them, as the messages of a chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    wrong,
)
from hearth.runtime.serving.openai.messages import MOST_MESSAGES, TEXT_ALONE, Message

# Of items that were answers and are sent back.
SENT_BACK = ("id", "status", "phase", "namespace", "created_by", "caller")


def _part(type: str, said: str = "text") -> Kind:
    return record(
        (
            required("type", word(type)),
            required(said, text()),
            *(ignored(name, any_value()) for name in ("annotations", "logprobs")),
        ),
        lambda type, **texts: {"type": "text", "text": texts[said]},
    )


PARTS = tagged(
    "type",
    {
        "input_text": _part("input_text"),
        "output_text": _part("output_text"),
        "refusal": _part("refusal", "refusal"),
        **dict.fromkeys(("input_image", "input_audio", "input_file"), refused(TEXT_ALONE)),
    },
)
CONTENT = either((str, text()), (list, listing(PARTS, 1)))


def _item(type: str, make: Any, *fields: Any) -> Kind:
    sent_back = tuple(ignored(name, any_value()) for name in SENT_BACK)
    return record((required("type", word(type)), *fields, *sent_back), make)


def _said(role: str, content: Any, type: str = "message") -> Message:
    return {"role": "system" if role == "developer" else role, "content": content}


def _called(type: str, call_id: str, name: str, arguments: str) -> Message:
    function = {"name": name, "arguments": arguments}
    call = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _returned(type: str, call_id: str, output: Any) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": output}


SPOKEN = (
    required("role", word("user", "assistant", "system", "developer")),
    required("content", CONTENT),
)
ITEMS: Mapping[str, Kind] = MappingProxyType(
    {
        "message": _item("message", _said, *SPOKEN),
        "function_call": _item(
            "function_call",
            _called,
            required("call_id", text(1)),
            required("name", text(1, 256)),
            required("arguments", text()),
        ),
        "function_call_output": _item(
            "function_call_output",
            _returned,
            required("call_id", text(1)),
            required("output", CONTENT),
        ),
        "item_reference": refused("answers are not kept: give the item itself"),
    }
)
TYPED = tagged("type", ITEMS)
EASY = record((field("type", word("message")), *SPOKEN), _said)  # a message without its type


def _any_item() -> Kind:
    def read(value: Any, place: str) -> Message:
        if not isinstance(value, dict):
            wrong(place, value, "an object")
        kind = TYPED if value.get("type") is not None else EASY
        message: Message = kind.read(value, place)
        return message

    return Kind(read, {"anyOf": [EASY.schema, TYPED.schema]})


def joined(messages: Sequence[Message]) -> Iterator[Message]:
    """What the assistant says and the calls that it makes after it are one message, as templates have it."""
    last: dict[str, Any] | None = None
    for message in messages:
        calls = message.get("tool_calls")
        if calls and last is not None and last["role"] == "assistant":
            last["tool_calls"] = [*last.get("tool_calls", ()), *calls]
            continue
        if last is not None:
            yield last
        last = dict(message)
    if last is not None:
        yield last


def _asked(said: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": said},)


CONVERSATION = either(
    (str, made(text(), _asked)),
    (list, made(listing(_any_item(), 1, MOST_MESSAGES), lambda items: tuple(joined(items)))),
)
