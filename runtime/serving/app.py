"""The ASGI application: the surfaces' routes with keys, CORS, limits, metrics, health and a log around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hearth.runtime.serving.edge import REQUEST_ID, Edge, Surface
from hearth.runtime.serving.metrics import Metrics
from hearth.runtime.serving.refusals import Refusal
from hearth.runtime.serving.service import Service

EXPIRY_S = 1.0  # how often idle models are looked for


@dataclass(frozen=True)
class Limits:
    """What a request may take: bytes of its body, seconds of its head and body, of its answer, of a write."""

    body_nbytes: int = 8 << 20
    head_s: float = 10.0
    body_s: float = 30.0
    answer_s: float | None = 600.0
    write_s: float = 30.0


@dataclass(frozen=True)
class AppOptions:
    """Keys that open the server (none: everybody may), origins that browsers may call from, limits."""

    keys: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Part:
    """A surface and its routes; `open_paths` need no key."""

    surface: Surface
    routes: Sequence[Route]
    open_paths: Callable[[str], bool] = lambda path: False


@dataclass(frozen=True)
class Serving:
    """What endpoints work with: `request.app.state.serving`."""

    service: Service
    metrics: Metrics
    limits: Limits


def make_app(service: Service, parts: Sequence[Part], options: AppOptions) -> Starlette:
    """The parts' routes, `/health` and `/metrics`. Errors are written by the first part whose prefix fits."""
    metrics = Metrics(service)
    routes = (*(route for part in parts for route in part.routes), *COMMON)
    surfaces = (*(part.surface for part in parts), Surface("", plain_error))

    def is_open(path: str) -> bool:
        return path == "/health" or any(part.open_paths(path) for part in parts)

    edge = Middleware(
        Edge, surfaces=surfaces, metrics=metrics, routes=routes, keys=options.keys, is_open=is_open,
        write_s=options.limits.write_s,
    )  # fmt: skip
    app = Starlette(
        routes=routes,
        middleware=[*_cors(options.origins), edge],
        exception_handlers={HTTPException: _refuse_again},
        lifespan=_lifespan,
    )
    app.state.serving = Serving(service, metrics, options.limits)
    app.state.limits = options.limits
    return app


def plain_error(error: Refusal) -> dict[str, Any]:
    """The body of errors outside the surfaces."""
    return {"error": {"message": error.message, "code": error.code}}


async def _refuse_again(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, another method) become ours, which the edge writes."""
    assert isinstance(error, HTTPException)
    found = {
        404: f"there is no {request.url.path:.200}",
        405: f"{request.method:.40} is not for this path",
    }
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = found.get(error.status_code, error.detail)
    code = codes.get(error.status_code, "invalid_request")
    raise Refusal(error.status_code, message, code=code, headers=error.headers) from None


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Unload idle models now and then; at the end close every scheduler."""
    service: Service = app.state.serving.service
    keeper = asyncio.create_task(_expire(service))
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.to_thread(service.close)


async def _expire(service: Service) -> None:
    while True:
        await asyncio.sleep(EXPIRY_S)
        await asyncio.to_thread(service.expire)


async def _health(request: Request) -> Response:
    """That the server answers, and what it has loaded."""
    serving: Serving = request.app.state.serving
    loaded = [running.served.name for running in serving.service.running()]
    return JSONResponse({"status": "ok", "loaded": loaded})


async def _metrics(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    return Response(serving.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


COMMON = (Route("/health", _health, methods=["GET"]), Route("/metrics", _metrics, methods=["GET"]))


def _cors(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST", "DELETE", "HEAD"],
            allow_headers=["*"], expose_headers=[REQUEST_ID],
        )
    ]  # fmt: skip
