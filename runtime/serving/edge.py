"""Around every request: its id, the key it must show, the answer to what goes wrong, a line in the log, its metrics."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hearth.runtime.serving.metrics import Metrics
from hearth.runtime.serving.refusals import Refusal, refusal
from hearth.schemas.errors import HearthError

LOG = logging.getLogger("hearth.serve")
REQUEST_ID = "x-request-id"
WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Body = Callable[[Refusal], Any]  # the JSON of an error, as a surface writes it


@dataclass(frozen=True)
class Surface:
    """Paths below `prefix` write their errors so; `open_paths` are answered without a key."""

    prefix: str
    error_body: Body


@dataclass(frozen=True)
class Edge:
    """The outermost part of the application.

    `keys` are those that may be shown (none: no key is asked for) but for paths where `is_open` says so. A client
    that does not take what it is sent for `write_s` seconds is given up.
    """

    app: ASGIApp
    surfaces: tuple[Surface, ...]
    metrics: Metrics
    routes: tuple[Route, ...]
    keys: frozenset[str]
    is_open: Callable[[str], bool]
    write_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self.write_s)
        scope.setdefault("state", {})["request_id"] = exchange.id
        try:
            await self._answer(scope, receive, exchange)
        finally:
            self._note(scope, exchange)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            self._check_key(scope)
            await self.app(scope, receive, exchange.send)
        except Refusal as error:
            await self._refuse(error, scope, receive, exchange)
        except HearthError as error:
            await self._refuse(refusal(error), scope, receive, exchange)
        except SlowClient:
            LOG.warning("request %s: the client did not read for %g s", exchange.id, self.write_s)
        except Exception:
            LOG.exception("request %s failed: this is a bug, please report it", exchange.id)
            found = Refusal(500, f"an internal error; its log entry is {exchange.id}", code="bug")
            await self._refuse(found, scope, receive, exchange)

    async def _refuse(
        self, error: Refusal, scope: Scope, receive: Receive, exchange: _Exchange
    ) -> None:
        """What has begun cannot be taken back: it is cut off (streams say what went wrong themselves)."""
        if exchange.status:
            return
        response = self.error_response(error, scope["path"])
        await response(scope, receive, exchange.send)

    def error_response(self, error: Refusal, path: str) -> JSONResponse:
        """An error as the surface of the path writes it."""
        surface = next(each for each in self.surfaces if path.startswith(each.prefix))
        return JSONResponse(surface.error_body(error), error.status, error.headers)

    def _check_key(self, scope: Scope) -> None:
        if not self.keys or scope["method"] == "OPTIONS" or self.is_open(scope["path"]):
            return
        given = Headers(scope=scope).get("authorization", "")
        scheme, _, key = given.partition(" ")
        shown = key.strip() if scheme.lower() == "bearer" else ""
        if not any(hmac.compare_digest(shown.encode(), each.encode()) for each in self.keys):
            found = "this API key is not known" if shown else "no API key was given"
            raise Refusal(
                401,
                f"{found}; send one as the header 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )

    def _note(self, scope: Scope, exchange: _Exchange) -> None:
        route, seconds = self._route(scope), time.perf_counter() - exchange.began
        self.metrics.requests.labels(scope["method"], route, str(exchange.status or "gone")).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        fields: Mapping[str, object] = {
            "id": exchange.id,
            "client": (scope.get("client") or ("-",))[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": exchange.status,
            "bytes": exchange.nbytes,
            "seconds": round(seconds, 4),
            **scope["state"].get("log", {}),
        }
        LOG.info("%s", json.dumps(fields))

    def _route(self, scope: Scope) -> str:
        """The pattern that the path matches, so that there are as many labels as routes."""
        found = (route.path for route in self.routes if route.matches(scope)[0] is not Match.NONE)
        return next(found, "other")


class SlowClient(Exception):
    """A client that does not read what it asked for."""


class _Exchange:
    """One answer on its way: what was sent of it."""

    def __init__(self, scope: Scope, send: Send, write_s: float) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        self.id = given if WELL_FORMED_ID.fullmatch(given) else uuid.uuid4().hex
        self.began = time.perf_counter()
        self.status = self.nbytes = 0
        self._send, self._write_s = send, write_s

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.id
        self.nbytes += len(message.get("body", b""))
        try:
            async with asyncio.timeout(self._write_s):
                await self._send(message)
        except TimeoutError:
            raise SlowClient from None
