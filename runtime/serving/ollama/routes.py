"""The endpoints below /api."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hearth.runtime.serving.app import Part, Serving
from hearth.runtime.serving.bodies import read_object
from hearth.runtime.serving.bridge import holding, in_thread
from hearth.runtime.serving.edge import Surface
from hearth.runtime.serving.ollama import prompts, registry
from hearth.runtime.serving.ollama.answers import Wanted, begin, collected
from hearth.runtime.serving.ollama.facts import Facts
from hearth.runtime.serving.ollama.fields import Fields
from hearth.runtime.serving.ollama.requests import (
    Chat,
    Common,
    read_chat,
    read_embed,
    read_embeddings,
    read_generate,
    read_model,
)
from hearth.runtime.serving.ollama.responses import End, Form, Json, Said, error, nanoseconds
from hearth.runtime.serving.ollama.vectors import embed
from hearth.runtime.serving.presence import Stream, while_connected
from hearth.runtime.serving.refusals import Refusal, as_refusal
from hearth.runtime.serving.served import Served
from hearth.runtime.serving.vectors import normalised
from hearth.runtime.tools import Tool, format_of, read_tools
from hearth.schemas import __version__

LINES = "application/x-ndjson"


async def generate(request: Request) -> Response:
    """POST /api/generate: a prompt continued, or without one the model loaded or unloaded."""
    asked = read_generate(await _body(request))
    form = Form(asked.common.model, chat=False)
    if not asked.prompt:
        return await _keep(request, asked.common, form)
    wanted = Wanted(
        asked.common, form, lambda model: prompts.generate_ids(model, asked), raw=asked.raw
    )
    return await _answer(request, wanted)


async def chat(request: Request) -> Response:
    """POST /api/chat: the next message, or without messages the model loaded or unloaded."""
    asked = read_chat(await _body(request))
    form = Form(asked.common.model, chat=True)
    if not asked.messages:
        return await _keep(request, asked.common, form)
    wanted = Wanted(asked.common, form, lambda model: prompts.chat_ids(model, asked), _tools(asked))
    return await _answer(request, wanted)


async def embed_texts(request: Request) -> Response:
    """POST /api/embed: a vector of length 1 for each text."""
    asked = read_embed(await _body(request))
    found = await while_connected(request, embed(_serving(request), asked))
    return JSONResponse(
        {
            "model": asked.model,
            "embeddings": normalised(found.rows).tolist(),
            "total_duration": nanoseconds(found.total_s),
            "load_duration": nanoseconds(found.load_s),
            "prompt_eval_count": found.tokens,
        }
    )


async def embed_prompt(request: Request) -> Response:
    """POST /api/embeddings, the older form: the vector of one text as the model makes it."""
    asked = read_embeddings(await _body(request))
    found = await while_connected(request, embed(_serving(request), asked))
    return JSONResponse({"embedding": found.rows[0].tolist()})


async def tags(request: Request) -> Response:
    """GET /api/tags: every archive, and every adapter as `name:adapter`."""
    listed = _serving(request).service.list()
    return JSONResponse(
        {"models": [_facts(served, name).line() for served in listed for name in served.names]}
    )


async def running(request: Request) -> Response:
    """GET /api/ps: what is loaded."""
    found = _serving(request).service.running()
    return JSONResponse(
        {"models": [_facts(each.served, each.served.name).running(each.expires) for each in found]}
    )


async def show(request: Request) -> Response:
    """POST /api/show: what a model is."""
    name = read_model(Fields(await _body(request)))
    served, adapter = _serving(request).service.find(name)
    own = served.name if adapter is None else f"{served.name}:{adapter.name}"
    return JSONResponse(_facts(served, own).page())


async def show_version(request: Request) -> Response:
    """GET /api/version"""
    return JSONResponse({"version": __version__})


async def pull(request: Request) -> Response:
    """POST /api/pull: a model that is served is there already, another cannot be had."""
    fields = Fields(await _body(request))
    _serving(request).service.find(read_model(fields))
    if fields.flag("stream") is False:
        return JSONResponse(registry.PULLED[-1])
    return Response(b"".join(map(_line, registry.PULLED)), media_type=LINES)


async def change(request: Request) -> Response:
    """POST /api/push and /api/copy, DELETE /api/delete: 404 for an unknown model, else 501."""
    fields = Fields(await _body(request))
    name = fields.text("source") or read_model(fields)
    _serving(request).service.find(name)
    return JSONResponse(registry.refusal(), registry.STATUS_NOT_IMPLEMENTED)


async def create(request: Request) -> Response:
    """POST /api/create and a blob for it."""
    return JSONResponse(registry.refusal(), registry.STATUS_NOT_IMPLEMENTED)


async def has_blob(request: Request) -> Response:
    """HEAD /api/blobs/DIGEST: there are none."""
    return Response(status_code=404)


async def _answer(request: Request, wanted: Wanted) -> Response:
    """What goes wrong before the first token is answered with its status, later by a last line."""
    async with AsyncExitStack() as held_open:
        serving, common = _serving(request), wanted.common
        objects = await while_connected(request, begin(serving, wanted, held_open))
        if not common.stream:
            whole = collected(wanted.form, objects)
            return JSONResponse(await while_connected(request, whole))
        lines = _lines(objects, request.state.request_id)
        return Stream(lines, held_open.pop_all(), LINES)
    raise AssertionError("unreachable")


async def _lines(objects: AsyncIterator[Json], request_id: str) -> AsyncIterator[bytes]:
    try:
        async for found in objects:
            yield _line(found)
    except Exception as failure:
        yield _line(error(as_refusal(failure, request_id).message))


async def _keep(request: Request, common: Common, form: Form) -> Response:
    """Load the model for `keep_alive`, or unload it where that is 0."""
    service = _serving(request).service
    reason = "load"
    if common.keep_alive == 0:
        await in_thread(lambda: service.unload(common.model))
        reason = "unload"
    else:
        async with holding(service, common.model, common.keep_alive):
            pass
    return JSONResponse(form.end(Said(), End(reason)))


async def _body(request: Request) -> Json:
    """Clients of Ollama send JSON with whatever content type."""
    return await read_object(request, any_type=True)


def _tools(asked: Chat) -> tuple[Tool, ...] | None:
    if not asked.tools:
        return None
    for n, tool in enumerate(asked.tools):
        function = Fields(tool, f"tools[{n}].").inner("function")
        function.needed("name", function.text("name"))
    return read_tools(asked.tools)


def _facts(served: Served, name: str) -> Facts:
    template = served.chat_template or ""
    return Facts(
        name=name,
        parent="" if name == served.name else served.name,
        manifest=served.manifest,
        nbytes=served.nbytes,
        modified=served.modified,
        digest=served.digest,
        template=template,
        tools=format_of(template) is not None,
    )


def _line(found: Json) -> bytes:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


def _error_body(refused: Refusal) -> Json:
    return error(refused.message)


PART = Part(
    Surface("/api", _error_body),
    (
        Route("/api/generate", generate, methods=["POST"]),
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/embed", embed_texts, methods=["POST"]),
        Route("/api/embeddings", embed_prompt, methods=["POST"]),
        Route("/api/tags", tags, methods=["GET"]),
        Route("/api/ps", running, methods=["GET"]),
        Route("/api/show", show, methods=["POST"]),
        Route("/api/version", show_version, methods=["GET"]),
        Route("/api/pull", pull, methods=["POST"]),
        Route("/api/push", change, methods=["POST"]),
        Route("/api/copy", change, methods=["POST"]),
        Route("/api/delete", change, methods=["DELETE"]),
        Route("/api/create", create, methods=["POST"]),
        Route("/api/blobs/{digest}", has_blob, methods=["HEAD"]),
        Route("/api/blobs/{digest}", create, methods=["POST"]),
    ),
)
