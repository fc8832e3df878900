"""POST /v1/completions"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hearth.runtime.serving.bodies import read_object
from hearth.runtime.serving.openai.asked import CompletionRequest
from hearth.runtime.serving.openai.choices import Choices
from hearth.runtime.serving.openai.requests import read_completion
from hearth.runtime.serving.openai.saying import Delta, Saying, Token, completion_logprobs
from hearth.runtime.serving.openai.speaking import Body, Speaking, answer
from hearth.runtime.serving.openai.work import completion_work


async def completions(request: Request) -> Response:
    """Texts or token ids in, what follows them out."""
    return await answer(request, read_completion(await read_object(request)), COMPLETIONS)


def _first(number: int, speaking: Speaking) -> Body | None:
    echo = speaking.work.sayings[number].prompt
    return _choice(number, echo, (), None, speaking) if echo else None


def _deltas(number: int, delta: Delta, speaking: Speaking) -> Sequence[Body]:
    return [_choice(number, delta.text, (*delta.read, *delta.tokens), None, speaking)]


def _last(number: int, reason: str, speaking: Speaking) -> Body:
    return _choice(number, "", (), reason, speaking)


def _choices(speaking: Speaking) -> Sequence[Body]:
    work, asked = speaking.work, _asked(speaking)
    found: list[Body] = []
    for start in range(0, len(work.jobs), work.per_prompt):
        numbers = list(range(start, start + work.per_prompt))
        if work.per_prompt > asked.n:
            numbers = sorted(numbers, key=lambda number: -_mean(work.sayings[number]))[: asked.n]
        for number in numbers:
            saying = work.sayings[number]
            tokens = (*saying.read, *saying.tokens)
            text = saying.prompt + saying.text
            found.append(_choice(len(found), text, tokens, saying.reason, speaking))
    return found


def _mean(saying: Saying) -> float:
    """The mean log probability of an answer's tokens: what best_of compares."""
    found = [token.logprob for token in saying.tokens if token.logprob is not None]
    return sum(found) / len(found) if found else 0.0


def _asked(speaking: Speaking) -> CompletionRequest:
    assert isinstance(speaking.asked, CompletionRequest)
    return speaking.asked


def _choice(
    number: int, text: str, tokens: Sequence[Token], reason: str | None, speaking: Speaking
) -> Body:
    wanted = _asked(speaking).logprobs is not None
    logprobs: Any = completion_logprobs(tokens, speaking.spell) if wanted else None
    return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": reason}


COMPLETIONS = Choices(
    "prompt",
    "cmpl",
    "text_completion",
    "text_completion",
    completion_work,
    _first,
    _deltas,
    _last,
    _choices,
)
