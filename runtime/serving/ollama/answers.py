"""An answer to /api/generate or /api/chat: the job it is, and the objects that tell of it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from hearth.runtime.model import Model
from hearth.runtime.sampling import Choice
from hearth.runtime.serving.app import Serving
from hearth.runtime.serving.bridge import Answers, holding, in_thread
from hearth.runtime.serving.held import Held
from hearth.runtime.serving.jobs import Finished, Job, Piece, Told, Usage
from hearth.runtime.serving.ollama.requests import Common
from hearth.runtime.serving.ollama.responses import (
    End,
    Form,
    Json,
    Said,
    Timing,
    logprob,
    tool_call,
)
from hearth.runtime.serving.ollama.wishes import request_of
from hearth.runtime.serving.refusals import Refusal
from hearth.runtime.serving.spelling import speller
from hearth.runtime.tools import Tool, ToolCall, ToolFormat, ToolParser, tool_format

Read = Callable[[Model], list[int]]


@dataclass(frozen=True)
class Wanted:
    """A request in what both endpoints share; `read` makes the ids of its prompt, `tools` are those offered."""

    common: Common
    form: Form
    read: Read
    tools: tuple[Tool, ...] | None = None
    raw: bool = False  # its answer has no context: there is no conversation to go on with


async def begin(serving: Serving, wanted: Wanted, held_open: AsyncExitStack) -> AsyncIterator[Json]:
    """Load the model, queue the job and wait for its first token; then the objects, of which the last has `done`.

    What can be refused is refused here, while the answer has no status yet. The model and the job are held by
    `held_open`.
    """
    began, common = time.perf_counter(), wanted.common
    holder = holding(serving.service, common.model, common.keep_alive)
    held = await held_open.enter_async_context(holder)
    job, parser = await in_thread(lambda: _job(held, wanted))
    answers = Answers(held.scheduler, [job], serving.limits.answer_s)
    await held_open.enter_async_context(answers)
    first = (await anext(answers))[1]
    telling = _Telling(held, wanted, job, parser, speller(held.model), began)
    return _told(serving, telling, first, answers)


async def _told(
    serving: Serving, telling: _Telling, first: Told, answers: Answers
) -> AsyncIterator[Json]:
    event = first
    while not isinstance(event, Finished):
        said = telling.hear(event) if isinstance(event, Piece) else None
        if said is not None:
            yield telling.wanted.form.piece(said)
        event = (await anext(answers))[1]
    serving.metrics.count(telling.held.served.name, event.usage)
    if event.reason == "cancelled":
        raise Refusal(503, "the server is shutting down", code="resource.closing")
    yield telling.end(event)


@dataclass
class _Telling:
    """What was heard of a job so far."""

    held: Held
    wanted: Wanted
    job: Job
    parser: ToolParser | None
    spell: Callable[[int], bytes]
    began: float
    tokens: list[int] = field(default_factory=list)
    calls: int = 0

    def hear(self, piece: Piece) -> Said | None:
        """What there is to tell of a token; None where its text is still held back."""
        self.tokens.append(piece.choice.token)
        text, calls = (piece.text, ()) if self.parser is None else self.parser.push(piece.text)
        said = self._said(text, calls, self._probabilities(piece.choice))
        return said if said.text or said.tool_calls or said.logprobs else None

    def end(self, finished: Finished) -> Json:
        """The last object."""
        text, calls = ("", ()) if self.parser is None else self.parser.flush()
        context = () if self.wanted.raw else (*self.job.prompt, *self.tokens)
        end = End(finished.reason, self._timing(finished.usage), context)
        return self.wanted.form.end(self._said(text, calls, ()), end)

    def _said(
        self, text: str, calls: tuple[ToolCall, ...], probabilities: tuple[Json, ...]
    ) -> Said:
        first = self.calls
        self.calls += len(calls)
        found = (
            tool_call(first + n, call.name, json.loads(call.arguments))
            for n, call in enumerate(calls)
        )
        return Said(text, tuple(found), probabilities)

    def _probabilities(self, choice: Choice) -> tuple[Json, ...]:
        if choice.logprob is None:
            return ()
        top = [(self.spell(token), value) for token, value in choice.top]
        return (logprob(self.spell(choice.token), choice.logprob, top),)

    def _timing(self, usage: Usage) -> Timing:
        return Timing(
            total_s=time.perf_counter() - self.began,
            load_s=self.held.load_s,
            prompt_tokens=usage.prompt_tokens,
            prompt_s=usage.prefill_s,
            tokens=usage.generated_tokens,
            tokens_s=usage.decode_s,
        )


def _job(held: Held, wanted: Wanted) -> tuple[Job, ToolParser | None]:
    """Blocks: prompts and grammars take their time."""
    model, common = held.model, wanted.common
    format = _tool_format(model, wanted)
    ids = wanted.read(model)
    request = request_of(model, common, len(ids), held.settings.full)
    constraint = (
        None if common.format is None else model.grammars.constraint(wish_of(common.format))
    )
    decode = None if format is None else format.decode(model.tokenizer)
    job = Job(tuple(ids), request, constraint, held.adapter, decode)
    return job, None if format is None else ToolParser(format, wanted.tools or ())


def _tool_format(model: Model, wanted: Wanted) -> ToolFormat | None:
    if wanted.tools is None:
        return None
    format = tool_format(model)
    if format is None:
        raise Refusal(
            400, f"{wanted.common.model!r} does not support tools", parameter="tools", code="tools"
        )
    return format


def wish_of(format: str | Mapping[str, Any]) -> Any:
    """The grammar of `format`: "json", or a schema."""
    from hearth.runtime.grammar import JsonObject, JsonSchema

    return JsonObject() if isinstance(format, str) else JsonSchema.of(format, closed=True)


async def collected(form: Form, objects: AsyncIterator[Json]) -> Json:
    """One object for the whole answer."""
    texts: list[str] = []
    calls: list[Json] = []
    probabilities: list[Json] = []
    async for found in objects:
        message = found["message"] if form.chat else found
        texts.append(message["content" if form.chat else "response"])
        calls += message.get("tool_calls", [])
        probabilities += found.get("logprobs", [])
        last = found
    message = last["message"] if form.chat else last
    message["content" if form.chat else "response"] = "".join(texts)
    if calls:
        message["tool_calls"] = calls
    if probabilities:
        last["logprobs"] = probabilities
    return last
