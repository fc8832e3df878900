"""What chat completions and completions do alike: hold the model, run the jobs, answer at once or as a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hearth.runtime.serving.app import Serving
from hearth.runtime.serving.bridge import Answers, holding, in_thread
from hearth.runtime.serving.held import Held
from hearth.runtime.serving.jobs import Finished, Told
from hearth.runtime.serving.openai.asked import Speech
from hearth.runtime.serving.openai.errors import about, error_body
from hearth.runtime.serving.openai.saying import Delta, Saying, Spell, usage_body
from hearth.runtime.serving.openai.work import Work
from hearth.runtime.serving.presence import Stream, while_connected
from hearth.runtime.serving.refusals import Refusal, as_refusal
from hearth.runtime.serving.spelling import speller

Body = dict[str, Any]
EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Speaking:
    """One request under way: what was asked, the held model, the work, and what its answers have in common."""

    serving: Serving
    asked: Speech
    held: Held
    work: Work
    spell: Spell
    head: Body  # id, created, model, ...
    request_id: str


@dataclass(frozen=True)
class Form:
    """How one endpoint writes its answers.

    `first` is what opens a choice in a stream (None: nothing), `deltas` what the stream says of more of it, `last` of
    its end; `choices` are the whole ones.
    """

    prompt: str  # the field that the model reads
    prefix: str  # of ids
    object: str
    chunk_object: str
    make: Callable[[Held, Any], Work]
    first: Callable[[int, Speaking], Body | None]
    deltas: Callable[[int, Delta, Speaking], Iterable[Body]]
    last: Callable[[int, str, Speaking], Body]
    choices: Callable[[Speaking], Sequence[Body]]


async def answer(request: Request, asked: Speech, form: Form) -> Response:
    """The whole answer, or a stream of it."""
    serving: Serving = request.app.state.serving
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(holding(serving.service, asked.model))
        with about(form.prompt):
            work = await in_thread(lambda: form.make(held, asked))
        head = _head(held, asked, form)
        speaking = Speaking(
            serving, asked, held, work, speller(held.model), head, request.state.request_id
        )
        request.state.log = {"model": asked.model, "stream": asked.stream}
        answers = Answers(held.scheduler, work.jobs, serving.limits.answer_s)
        with about(form.prompt):
            await stack.enter_async_context(answers)
        if asked.stream:
            return Stream(_events(speaking, answers, form), stack.pop_all(), EVENTS)
        await while_connected(request, _listen(speaking, answers))
        body = {**head, "choices": list(form.choices(speaking)), "usage": _usage(speaking)}
        return JSONResponse(body)


def _head(held: Held, asked: Speech, form: Form) -> Body:
    return {
        "id": f"{form.prefix}-{uuid.uuid4().hex}",
        "object": form.chunk_object if asked.stream else form.object,
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": f"fp_{held.served.digest[:12]}",
    }


async def _listen(speaking: Speaking, answers: Answers) -> None:
    async for number, event in answers:
        _hear(speaking, speaking.work.sayings[number], event)


def _hear(speaking: Speaking, saying: Saying, event: Told) -> Delta:
    """What an event adds to its answer."""
    if not isinstance(event, Finished):
        return saying.push(event)
    speaking.serving.metrics.count(speaking.held.served.name, event.usage)
    if event.reason == "cancelled":
        raise Refusal(503, "the server is shutting down", code="resource.closing")
    return saying.end(event)


async def _events(speaking: Speaking, answers: Answers, form: Form) -> AsyncIterator[bytes]:
    """Server-sent events; an error is the last one."""
    try:
        for number in range(len(speaking.work.jobs)):
            opening = form.first(number, speaking)
            if opening is not None:
                yield _chunk(speaking, [opening])
        async for number, event in answers:
            saying = speaking.work.sayings[number]
            delta = _hear(speaking, saying, event)
            for body in () if delta.empty else form.deltas(number, delta, speaking):
                yield _chunk(speaking, [body])
            if isinstance(event, Finished):
                yield _chunk(speaking, [form.last(number, saying.reason, speaking)])
        if _wants_usage(speaking.asked):
            yield _chunk(speaking, [], _usage(speaking))
    except Exception as error:
        yield _event(error_body(as_refusal(error, speaking.request_id)))
        return
    yield DONE


def _chunk(speaking: Speaking, choices: Sequence[Body], usage: Body | None = None) -> bytes:
    body = {**speaking.head, "choices": choices}
    return _event({**body, "usage": usage} if _wants_usage(speaking.asked) else body)


def _event(body: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _wants_usage(asked: Speech) -> bool:
    return asked.stream_options is not None and asked.stream_options.include_usage


def _usage(speaking: Speaking) -> Body:
    finished = [saying.finished for saying in speaking.work.sayings]
    usages = [each.usage for each in finished if each is not None]
    return usage_body(usages, speaking.work.per_prompt)
