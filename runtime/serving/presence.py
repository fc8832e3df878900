"""What is done for a client ends when the client goes away: an answer as a whole, and a stream with what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from hearth.runtime.serving.refusals import Refusal

T = TypeVar("T")

STATUS_GONE = 499  # nobody reads it; it stands in the log and the metrics


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, after the request's body was read. The client's going away cancels it: Refusal 499."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(STATUS_GONE, "the client went away", code="client_gone")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task, gone})  # what the work holds is let go before the handler ends


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Stream(StreamingResponse):
    """Sends pieces as they come. `held` is closed at the end, also where the client went before the first piece."""

    def __init__(self, pieces: AsyncIterator[bytes], held: AsyncExitStack, media_type: str) -> None:
        super().__init__(pieces, media_type=media_type)
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"  # for proxies in between
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)
