"""POST /v1/chat/completions"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hearth.runtime.serving.bodies import read_object
from hearth.runtime.serving.openai.asked import ChatRequest
from hearth.runtime.serving.openai.choices import Choices
from hearth.runtime.serving.openai.requests import read_chat
from hearth.runtime.serving.openai.saying import Delta, Saying, Token, chat_logprobs
from hearth.runtime.serving.openai.speaking import Body, Speaking, answer
from hearth.runtime.serving.openai.work import chat_work
from hearth.runtime.tools import Arguments, ToolCall


async def chat_completions(request: Request) -> Response:
    """Messages in, the assistant's next one out."""
    return await answer(request, read_chat(await read_object(request)), CHAT)


def _first(number: int, speaking: Speaking) -> Body:
    delta = {"role": "assistant", "content": "", "refusal": None}
    return _choice(number, delta=delta, logprobs=None, finish_reason=None)


def _deltas(number: int, delta: Delta, speaking: Speaking) -> Iterator[Body]:
    """The text, and each part of a call by itself: clients take a call's name to come before its arguments."""
    tokens = delta.tokens
    for said in _said(delta):
        yield _choice(number, delta=said, logprobs=_logprobs(tokens, speaking), finish_reason=None)
        tokens = ()


def _said(delta: Delta) -> Iterator[Body]:
    if delta.text or not delta.calls:
        yield {"content": delta.text}
    index = delta.begun - 1
    for part in delta.calls:
        match part:
            case ToolCall():
                index += 1
                yield {"tool_calls": [{"index": index, **_call(part)}]}
            case Arguments(text):
                yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _last(number: int, reason: str, speaking: Speaking) -> Body:
    return _choice(number, delta={}, logprobs=None, finish_reason=reason)


def _choices(speaking: Speaking) -> Sequence[Body]:
    return [
        _choice(
            number,
            message=_message(saying),
            logprobs=_logprobs(saying.tokens, speaking),
            finish_reason=saying.reason,
        )
        for number, saying in enumerate(speaking.work.sayings)
    ]


def _message(saying: Saying) -> Body:
    calls = saying.calls
    message: Body = {"role": "assistant", "content": saying.text, "refusal": None}
    if calls:
        message["content"] = saying.text or None
        message["tool_calls"] = [_call(call) for call in calls]
    return message


def _call(call: ToolCall) -> Body:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _logprobs(tokens: Sequence[Token], speaking: Speaking) -> Body | None:
    assert isinstance(speaking.asked, ChatRequest)
    return chat_logprobs(tokens, speaking.spell) if speaking.asked.logprobs else None


def _choice(number: int, **rest: Any) -> Body:
    return {"index": number, **rest}


CHAT = Choices(
    "messages",
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    chat_work,
    _first,
    _deltas,
    _last,
    _choices,
)
