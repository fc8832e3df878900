"""What endpoints that write do alike: hold the model, run the jobs, answer at once or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hearth.runtime.serving.app import Serving
from hearth.runtime.serving.bridge import Answers, holding, in_thread
from hearth.runtime.serving.held import Held
from hearth.runtime.serving.jobs import Finished, Told
from hearth.runtime.serving.openai.asked import Speech
from hearth.runtime.serving.openai.errors import about
from hearth.runtime.serving.openai.saying import Delta, Saying, Spell
from hearth.runtime.serving.openai.work import Work
from hearth.runtime.serving.presence import Stream, while_connected
from hearth.runtime.serving.refusals import Refusal
from hearth.runtime.serving.spelling import speller

Body = dict[str, Any]
EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Speaking:
    """One request under way: what was asked, the held model, the work, and what its answers have in common."""

    serving: Serving
    asked: Speech
    held: Held
    work: Work
    spell: Spell
    head: Body  # what every body of the answer says: an id, when, of which model
    request_id: str


class Form(Protocol):
    """How one endpoint reads prompts and writes answers."""

    @property
    def prompt(self) -> str:
        """The field that the model reads."""

    @property
    def make(self) -> Callable[[Held, Any], Work]:
        """The jobs of a request."""

    def head(self, held: Held, asked: Any) -> Body:
        """What all bodies of an answer begin with."""

    def whole(self, speaking: Speaking) -> Body:
        """The answer, at its end."""

    def events(self, speaking: Speaking, heard: AsyncIterator[Heard]) -> AsyncIterator[bytes]:
        """The answer as it grows. What raises is to be the last event."""


@dataclass(frozen=True)
class Heard:
    """What came of an answer of several; `finished`: it was the last of it."""

    number: int
    saying: Saying
    delta: Delta
    finished: bool


async def answer(request: Request, asked: Speech, form: Form) -> Response:
    """The whole answer, or a stream of it."""
    serving: Serving = request.app.state.serving
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(holding(serving.service, asked.model))
        with about(form.prompt):
            work = await in_thread(lambda: form.make(held, asked))
        head, spell = form.head(held, asked), speller(held.model)
        speaking = Speaking(serving, asked, held, work, spell, head, request.state.request_id)
        request.state.log = {"model": asked.model, "stream": asked.stream}
        answers = Answers(held.scheduler, work.jobs, serving.limits.answer_s)
        with about(form.prompt):
            await stack.enter_async_context(answers)
        if asked.stream:
            events = form.events(speaking, _heard(speaking, answers))
            return Stream(events, stack.pop_all(), EVENTS)
        await while_connected(request, _listen(speaking, answers))
        return JSONResponse(form.whole(speaking))


async def _listen(speaking: Speaking, answers: Answers) -> None:
    async for _ in _heard(speaking, answers):
        pass


async def _heard(speaking: Speaking, answers: Answers) -> AsyncIterator[Heard]:
    async for number, event in answers:
        saying = speaking.work.sayings[number]
        delta = _hear(speaking, saying, event)
        yield Heard(number, saying, delta, isinstance(event, Finished))


def _hear(speaking: Speaking, saying: Saying, event: Told) -> Delta:
    """What an event adds to its answer."""
    if not isinstance(event, Finished):
        return saying.push(event)
    speaking.serving.metrics.count(speaking.held.served.name, event.usage)
    if event.reason == "cancelled":
        raise Refusal(503, "the server is shutting down", code="resource.closing")
    return saying.end(event)


def event(body: Mapping[str, Any]) -> bytes:
    """One of a stream's."""
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
