"""POST /v1/responses: a conversation's items in, the items of the answer out; nothing of it is kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hearth.runtime.serving.bodies import read_object
from hearth.runtime.serving.held import Held
from hearth.runtime.serving.openai.asked import ResponseRequest
from hearth.runtime.serving.openai.errors import error_body
from hearth.runtime.serving.openai.output import Output
from hearth.runtime.serving.openai.response_fields import read_response
from hearth.runtime.serving.openai.saying import Saying, response_usage
from hearth.runtime.serving.openai.speaking import Body, Heard, Speaking, answer, event
from hearth.runtime.serving.openai.work import Work, chat_work
from hearth.runtime.serving.refusals import as_refusal


async def responses(request: Request) -> Response:
    """Items in, items out."""
    return await answer(request, read_response(await read_object(request)), Items())


@dataclass(frozen=True)
class Items:
    """How this endpoint writes its answers."""

    prompt: str = "input"
    make: Callable[[Held, Any], Work] = chat_work

    def head(self, held: Held, asked: ResponseRequest) -> Body:
        """What a response says from its beginning."""
        return {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": asked.model,
            **asked.repeated,
            "background": False,
            "previous_response_id": None,
            "store": False,
        }

    def whole(self, speaking: Speaking) -> Body:
        """The response at its end."""
        (saying,) = speaking.work.sayings
        output = Output()
        for delta in saying.deltas:
            for _ in output.add(delta):
                pass
        for _ in output.end(_status(saying)):
            pass
        return _ended(speaking, saying, output)

    async def events(self, speaking: Speaking, heard: AsyncIterator[Heard]) -> AsyncIterator[bytes]:
        """Numbered events; an error is the last one."""
        numbers, output = count(), Output()
        try:
            for type in ("response.created", "response.in_progress"):
                yield _event({"type": type, "response": _begun(speaking)}, numbers)
            async for each in heard:
                for body in output.add(each.delta):
                    yield _event(body, numbers)
                if each.finished:
                    for body in _last(speaking, each.saying, output):
                        yield _event(body, numbers)
        except Exception as error:
            found = error_body(as_refusal(error, speaking.request_id))["error"]
            yield _event({**found, "type": "error"}, numbers)


def _last(speaking: Speaking, saying: Saying, output: Output) -> Iterator[Body]:
    status = _status(saying)
    yield from output.end(status)
    yield {"type": f"response.{status}", "response": _ended(speaking, saying, output)}


def _status(saying: Saying) -> str:
    return "incomplete" if saying.reason == "length" else "completed"


def _begun(speaking: Speaking) -> Body:
    return _response(speaking, "in_progress", [], None)


def _ended(speaking: Speaking, saying: Saying, output: Output) -> Body:
    assert saying.finished is not None
    return _response(speaking, _status(saying), output.items, response_usage(saying.finished.usage))


def _response(speaking: Speaking, status: str, output: list[Body], usage: Body | None) -> Body:
    short = {"reason": "max_output_tokens"} if status == "incomplete" else None
    ended = {"status": status, "error": None, "incomplete_details": short}
    return {**speaking.head, **ended, "output": output, "usage": usage}


def _event(body: Body, numbers: Iterator[int]) -> bytes:
    data = event({**body, "sequence_number": next(numbers)})
    return f"event: {body['type']}\n".encode() + data
