"""From a request to the ids that are read: by the chat template, raw, after the ids of an answer, cut to fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    talks = sections.CHAT_TEMPLATE in model.archive.entries
    if asked.raw or not (talks or asked.system):
        ids = model.tokenizer.encode(asked.prompt)
    else:
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        ids = chat_text_ids(
            model, [*system, {"role": "user", "content": asked.prompt}], (), common.think
        )
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

    def read(start: int) -> list[int]:
        kept = [m for n, m in enumerate(asked.messages) if n >= start or m["role"] == "system"]
        return chat_text_ids(model, kept, asked.tools, common.think)

    ids = read(0)
    starts = [n for n, message in enumerate(asked.messages) if message["role"] == "user"]
    if room.holds(len(ids)) or not common.truncate or not starts:
        return ids
    first = bisect_left(starts[:-1], True, key=lambda start: len(read(start)) <= room.prompt)
    return read(starts[first])


def chat_text_ids(
    model: Model, messages: Sequence[Message], tools: Sequence[Message], think: bool | None
) -> list[int]:
    """ids of messages by the chat template, which may read `enable_thinking`."""
    text = model.chat_template.render(
        messages,
        tools=tools or None,
        variables={} if think is None else {"enable_thinking": think},
    )
    return model.tokenizer.encode(text, add_special_tokens=False)
