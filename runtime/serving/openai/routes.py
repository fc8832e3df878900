"""The endpoints below /v1."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hearth.runtime.serving.app import Part, Serving
from hearth.runtime.serving.edge import Surface
from hearth.runtime.serving.openai.chat import chat_completions
from hearth.runtime.serving.openai.completions import completions
from hearth.runtime.serving.openai.description import openapi
from hearth.runtime.serving.openai.embeddings import embeddings
from hearth.runtime.serving.openai.errors import error_body
from hearth.runtime.serving.openai.responses import responses
from hearth.runtime.serving.served import Served


async def list_models(request: Request) -> Response:
    """GET /v1/models: every archive, and every adapter as `name:adapter`."""
    serving: Serving = request.app.state.serving
    data = [_model(served, name) for served in serving.service.list() for name in served.names]
    return JSONResponse({"object": "list", "data": data})


async def get_model(request: Request) -> Response:
    """GET /v1/models/{name}"""
    serving: Serving = request.app.state.serving
    name = request.path_params["name"]
    served, _ = serving.service.find(name)
    return JSONResponse(_model(served, name))


def _model(served: Served, name: str) -> dict[str, Any]:
    created = int(served.modified.timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": "hearth"}


PART = Part(
    Surface("/v1", error_body),
    (
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{name:path}", get_model, methods=["GET"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/responses", responses, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/openapi.json", openapi, methods=["GET"]),
    ),
    open_paths=lambda path: path == "/openapi.json",
)
