"""From a request to the ids that are read: by the chat template, raw, after the ids of an answer, cut to fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hearth.runtime.serving.lengths import check_length, least_tokens
from hearth.runtime.serving.ollama.requests import Chat, Generate
from hearth.runtime.serving.ollama.wishes import Room
from hearth.runtime.session import checked_ids
from hearth.schemas import sections

if TYPE_CHECKING:
    from hearth.runtime.model import Model

Message = Mapping[str, Any]


def generate_ids(model: Model, asked: Generate) -> list[int]:
    """`context`, then the prompt: as it is where `raw`, else as a user's message, with a `system` before it.

    An archive without a chat template reads the prompt as it is, and refuses a system prompt
    (InputError `input.not_in_archive`).
    """
    common = asked.common
    if not common.truncate:
        check_length(model, asked.prompt)
    talks = sections.CHAT_TEMPLATE in model.archive.entries
    if asked.raw or not (talks or asked.system):
        ids = model.tokenizer.encode(asked.prompt)
    else:
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        messages = [*system, {"role": "user", "content": asked.prompt}]
        ids = encode_text(model, chat_text(model, messages, (), common.think))
    if asked.context:
        bos = model.tokenizer.bos_id
        ids = [*checked_ids(asked.context, model.vocab).tolist(), *ids[ids[:1] == [bos] :]]
    if not common.truncate:
        return ids
    return Room.of(common.options, model.context).cut(ids, common.options.num_keep or 0)


def chat_ids(model: Model, asked: Chat) -> list[int]:
    """The messages by the chat template; what does not fit loses its oldest turns, never a system message."""
    common = asked.common
    room = Room.of(common.options, model.context)

    def text(start: int) -> str:
        kept = [m for n, m in enumerate(asked.messages) if n >= start or m["role"] == "system"]
        return chat_text(model, kept, asked.tools, common.think)

    def count(start: int) -> int:
        rendered = text(start)
        least = least_tokens(model, rendered)
        return least if least > model.context else len(encode_text(model, rendered))

    first = 0
    starts = [n for n, message in enumerate(asked.messages) if message["role"] == "user"]
    if common.truncate and starts and not room.holds(count(0)):
        first = starts[bisect_left(starts[:-1], True, key=lambda n: count(n) <= room.prompt)]
    kept = text(first)
    check_length(model, kept)
    return encode_text(model, kept)


def chat_text(
    model: Model, messages: Sequence[Message], tools: Sequence[Message], think: bool | None
) -> str:
    """Messages by the chat template, which may read `enable_thinking`."""
    return model.chat_template.render(
        messages,
        tools=tools or None,
        variables={} if think is None else {"enable_thinking": think},
    )


def encode_text(model: Model, text: str) -> list[int]:
    """ids of a text that a template has written with its special tokens."""
    return model.tokenizer.encode(text, add_special_tokens=False)
