"""The edge around requests: a bug is answered and logged, a client that does not read is given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from hearth.runtime.serving.app import plain_error
from hearth.runtime.serving.edge import Edge, Surface
from hearth.runtime.serving.metrics import Metrics
from hearth.runtime.serving.service import Service
from hearth.runtime.serving.settings import Settings
from hearth.schemas.errors import ArchiveError, InputError, ResourceError

SCOPE: Scope = {
    "type": "http", "method": "GET", "path": "/x", "headers": [], "client": ("127.0.0.1", 1), "query_string": b"",
    "root_path": "",
}  # fmt: skip


def answer(app: Callable[..., Any], send: Callable[[Message], Any] | None = None) -> list[Message]:
    """What the edge sends of an application's answer."""
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    metrics = Metrics(Service({}, Settings(), lambda model: None))  # type: ignore[arg-type, return-value]
    edge = Edge(
        app, (Surface("", plain_error),), metrics, (), frozenset(), lambda path: False, 0.05
    )
    asyncio.run(edge(dict(SCOPE), nothing, send or keep))
    return sent


def raising(error: Exception) -> Callable[..., Any]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


def test_a_bug_is_answered_with_500_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logging.getLogger("hearth.serve").propagate = True
    start, body = answer(raising(KeyError("oops")))
    assert start["status"] == 500 and b"oops" not in body["body"]
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("input.text", "x", remedy="y"), 400),
        (ArchiveError("archive.truncated", "x", remedy="y"), 500),
        (ResourceError("resource.memory", "x", remedy="y"), 503),
        (ResourceError("resource.queue_full", "x", remedy="y"), 429),
    ],
)
def test_errors_of_the_runtime_have_their_status(error: Exception, status: int) -> None:
    assert answer(raising(error))[0]["status"] == status


def test_a_client_that_does_not_read_is_given_up() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise AssertionError("the client has been given up before")

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    answer(app, stuck)


def test_what_has_begun_is_not_answered_twice() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise InputError("input.text", "x", remedy="y")

    assert [message["type"] for message in answer(app)] == ["http.response.start"]
