"""Work for a client that goes away ends; a stream lets go of what it holds in any case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.requests import Request

from hearth.runtime.serving.presence import Stream, while_connected
from hearth.runtime.serving.refusals import Refusal

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}


class Client:
    """What a server hears of a client: nothing, until it goes away."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = asyncio.Event()
        self.sent: list[bytes] = []
        if gone:
            self.gone.set()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if not self.gone.is_set():  # as uvicorn, which drops what nobody reads
            self.sent.append(message.get("body", b""))

    @property
    def request(self) -> Request:
        return Request(SCOPE, self.receive)


def test_what_work_returns_and_raises_comes_through() -> None:
    async def main() -> None:
        async def one() -> int:
            return 1

        async def bad() -> int:
            raise ValueError("bad")

        client = Client()
        assert await while_connected(client.request, one()) == 1
        with pytest.raises(ValueError, match="bad"):
            await while_connected(client.request, bad())

    asyncio.run(main())


def test_work_for_a_client_that_goes_away_is_cancelled_and_has_let_go() -> None:
    async def main() -> None:
        client, let_go = Client(), asyncio.Event()

        async def work() -> None:
            try:
                client.gone.set()
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0)
                let_go.set()

        with pytest.raises(Refusal) as caught:
            await while_connected(client.request, work())
        assert caught.value.status == 499 and let_go.is_set()

    asyncio.run(main())


@pytest.mark.parametrize("gone", [False, True])
def test_a_stream_lets_go_also_where_the_client_never_heard_it(gone: bool) -> None:
    async def main() -> None:
        client, let_go = Client(gone=gone), []
        held = AsyncExitStack()
        held.callback(let_go.append, True)

        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        stream = Stream(pieces(), held, "text/plain")
        scope = {**SCOPE, "asgi": {"spec_version": "2.3"}}
        await stream(scope, client.receive, client.send)
        assert let_go == [True]
        assert gone or b"".join(client.sent) == b"ab"

    asyncio.run(main())
