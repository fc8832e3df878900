"""Answers as choices, whole or in chunks: what chat completions and completions have alike."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.runtime.serving.held import Held
from hearth.runtime.serving.openai.asked import Speech
from hearth.runtime.serving.openai.errors import error_body
from hearth.runtime.serving.openai.saying import Delta, usage_body
from hearth.runtime.serving.openai.speaking import Body, Heard, Speaking, event
from hearth.runtime.serving.openai.work import Work
from hearth.runtime.serving.refusals import as_refusal

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Choices:
    """How one of the two endpoints writes its answers.

    `first` is what opens a choice in a stream (None: nothing), `deltas` what the stream says of more of it, `last` of
    its end; `choices` are the whole ones.
    """

    prompt: str
    prefix: str  # of ids
    object: str
    chunk_object: str
    make: Callable[[Held, Any], Work]
    first: Callable[[int, Speaking], Body | None]
    deltas: Callable[[int, Delta, Speaking], Iterable[Body]]
    last: Callable[[int, str, Speaking], Body]
    choices: Callable[[Speaking], Sequence[Body]]

    def head(self, held: Held, asked: Speech) -> Body:
        """Of the answer, or of each chunk."""
        return {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "object": self.chunk_object if asked.stream else self.object,
            "created": int(time.time()),
            "model": asked.model,
            "system_fingerprint": f"fp_{held.served.digest[:12]}",
        }

    def whole(self, speaking: Speaking) -> Body:
        """All choices, and what they took."""
        choices = list(self.choices(speaking))
        return {**speaking.head, "choices": choices, "usage": _usage(speaking)}

    async def events(self, speaking: Speaking, heard: AsyncIterator[Heard]) -> AsyncIterator[bytes]:
        """Server-sent events; an error is the last one."""
        try:
            for number in range(len(speaking.work.jobs)):
                opening = self.first(number, speaking)
                if opening is not None:
                    yield _chunk(speaking, [opening])
            async for each in heard:
                for body in (
                    () if each.delta.empty else self.deltas(each.number, each.delta, speaking)
                ):
                    yield _chunk(speaking, [body])
                if each.finished:
                    yield _chunk(speaking, [self.last(each.number, each.saying.reason, speaking)])
            if _wants_usage(speaking.asked):
                yield _chunk(speaking, [], _usage(speaking))
        except Exception as error:
            yield event(error_body(as_refusal(error, speaking.request_id)))
            return
        yield DONE


def _chunk(speaking: Speaking, choices: Sequence[Body], usage: Body | None = None) -> bytes:
    body = {**speaking.head, "choices": choices}
    return event({**body, "usage": usage} if _wants_usage(speaking.asked) else body)


def _wants_usage(asked: Speech) -> bool:
    return asked.stream_options is not None and asked.stream_options.include_usage


def _usage(speaking: Speaking) -> Body:
    finished = [saying.finished for saying in speaking.work.sayings]
    usages = [each.usage for each in finished if each is not None]
    return usage_body(usages, speaking.work.per_prompt)
