"""The chat page at /: static files of this folder, read once, that load nothing from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hearth.runtime.serving.app import Part, plain_error
from hearth.runtime.serving.edge import Surface

INDEX = "index.html"
MEDIA_TYPES: Mapping[str, str] = {
    INDEX: "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "main.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "markup.js": "text/javascript; charset=utf-8",
    "store.js": "text/javascript; charset=utf-8",
    "view.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Only these files run or style anything, and they talk to this server alone: what a model writes cannot.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked for again each time, answered by 304
}
LIVE = (
    "Hearth is running: Ollama's interface is below /api, OpenAI's below /v1, a chat page here.\n"
)


async def send_file(content: bytes, media_type: str, request: Request) -> Response:
    """A file of the page, or 304 where the browser has it."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


async def send_index(page: Route, request: Request) -> Response:
    """The page for browsers; a line for those who only ask whether somebody is there."""
    if "text/html" in request.headers.get("accept", ""):
        response: Response = await page.endpoint(request)
    else:
        response = PlainTextResponse(LIVE)
    response.headers["vary"] = "accept"
    return response


def _route(name: str) -> Route:
    content = files(__package__).joinpath(name).read_bytes()
    return Route(f"/page/{name}", partial(send_file, content, MEDIA_TYPES[name]), methods=["GET"])


def _is_open(path: str) -> bool:
    """Nothing here is secret: the page asks for the key, and sends it with what it asks for."""
    return path == "/" or path.startswith("/page/")


def make_part() -> Part:
    """The page's routes; GET / is the page, HEAD / says that the server lives."""
    routes = {name: _route(name) for name in MEDIA_TYPES}
    index = Route("/", partial(send_index, routes[INDEX]), methods=["GET"])
    return Part(Surface("/page", plain_error), (index, *routes.values()), _is_open)
