"""The OpenAPI description of the endpoints below /v1, made of the tables that requests are read by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hearth.runtime.serving.app import Serving
from hearth.runtime.serving.openai.requests import CHAT_KIND, COMPLETION_KIND, EMBEDDING_KIND
from hearth.runtime.serving.openai.response_fields import REPEATED, RESPONSE_KIND
from hearth.schemas import __version__
from hearth.schemas.manifest import ModelKind

Json = dict[str, Any]

# What a status means, of those that requests with a body may have.
STATUSES: Mapping[int, str] = MappingProxyType(
    {
        400: "the request is wrong; `param` names the field",
        401: "no API key, or an unknown one",
        404: "no such model",
        408: "the body did not come in time",
        413: "the body is too large",
        415: "the body is not application/json",
        429: "too many requests wait; ask again after Retry-After seconds",
        503: "the server is shutting down, or lacks memory",
        504: "the answer took longer than the server allows",
    }
)


def _object(properties: Json, needed: Sequence[str] | None = None) -> Json:
    required = list(properties if needed is None else needed)
    return {"type": "object", "properties": properties, "required": required}


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT, WHOLE, REAL = {"type": "string"}, {"type": "integer"}, {"type": "number"}
MAYBE_TEXT = _nullable(TEXT)
TOP = _object({"token": TEXT, "logprob": REAL, "bytes": _array(WHOLE)})
CALL = _object(
    {
        "id": TEXT,
        "type": {"const": "function"},
        "function": _object({"name": TEXT, "arguments": TEXT}),
    }
)
CHAT_CHOICE = _object(
    {
        "index": WHOLE,
        "message": _object(
            {
                "role": {"const": "assistant"},
                "content": MAYBE_TEXT,
                "refusal": MAYBE_TEXT,
                "tool_calls": _array(CALL),
            },
            ("role", "content", "refusal"),
        ),
        "logprobs": _nullable(
            _object(
                {
                    "content": _array(_object({**TOP["properties"], "top_logprobs": _array(TOP)})),
                    "refusal": {"type": "null"},
                }
            )
        ),
        "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
    }
)
TEXT_CHOICE = _object(
    {
        "index": WHOLE,
        "text": TEXT,
        "logprobs": _nullable(
            _object(
                {
                    "tokens": _array(TEXT),
                    "token_logprobs": _array(_nullable(REAL)),  # null: of a prompt's first
                    "top_logprobs": _array(
                        _nullable({"type": "object", "additionalProperties": REAL})
                    ),
                    "text_offset": _array(WHOLE),
                }
            )
        ),
        "finish_reason": {"enum": ["stop", "length"]},
    }
)
USAGE = _object(
    {
        "prompt_tokens": WHOLE,
        "completion_tokens": WHOLE,
        "total_tokens": WHOLE,
        "prompt_tokens_details": _object({"cached_tokens": WHOLE}),
        "completion_tokens_details": _object(
            {"accepted_prediction_tokens": WHOLE, "rejected_prediction_tokens": WHOLE}
        ),
    }
)
STATUS = {"enum": ["completed", "incomplete"]}
PART = _object(
    {
        "type": {"const": "output_text"},
        "text": TEXT,
        "annotations": _array({}),
        "logprobs": _array({}),
    }
)
MESSAGE_ITEM = _object(
    {
        "type": {"const": "message"},
        "id": TEXT,
        "role": {"const": "assistant"},
        "status": STATUS,
        "content": _array(PART),
    }
)
CALL_ITEM = _object(
    {
        "type": {"const": "function_call"},
        "id": TEXT,
        "status": STATUS,
        "call_id": TEXT,
        "name": TEXT,
        "arguments": TEXT,
    }
)
RESPONSE_ANSWER = _object(
    {
        "id": TEXT,
        "object": {"const": "response"},
        "created_at": WHOLE,
        "model": TEXT,
        "status": STATUS,
        "error": {"type": "null"},
        "incomplete_details": _nullable(_object({"reason": {"const": "max_output_tokens"}})),
        "output": _array({"anyOf": [MESSAGE_ITEM, CALL_ITEM]}),
        "usage": _object(
            {
                "input_tokens": WHOLE,
                "input_tokens_details": _object({"cached_tokens": WHOLE}),
                "output_tokens": WHOLE,
                "output_tokens_details": _object({"reasoning_tokens": WHOLE}),
                "total_tokens": WHOLE,
            }
        ),
        **{name: {} for name in REPEATED},
    }
)
MODEL = _object({"id": TEXT, "object": {"const": "model"}, "created": WHOLE, "owned_by": TEXT})
ERROR = _object(
    {"error": _object({"message": TEXT, "type": TEXT, "param": MAYBE_TEXT, "code": MAYBE_TEXT})}
)


def _answer(object: str, choice: str) -> Json:
    return _object(
        {
            "id": TEXT,
            "object": {"const": object},
            "created": WHOLE,
            "model": TEXT,
            "system_fingerprint": TEXT,
            "choices": _array(_ref(choice)),
            "usage": _ref("Usage"),
        }
    )


SCHEMAS: Mapping[str, Any] = MappingProxyType(
    {
        "ChatRequest": CHAT_KIND.schema,
        "CompletionRequest": COMPLETION_KIND.schema,
        "EmbeddingRequest": EMBEDDING_KIND.schema,
        "ResponseRequest": RESPONSE_KIND.schema,
        "ResponseAnswer": RESPONSE_ANSWER,
        "ChatChoice": CHAT_CHOICE,
        "ChatAnswer": _answer("chat.completion", "ChatChoice"),
        "TextChoice": TEXT_CHOICE,
        "CompletionAnswer": _answer("text_completion", "TextChoice"),
        "Usage": USAGE,
        "Model": MODEL,
        "Models": _object({"object": {"const": "list"}, "data": _array(_ref("Model"))}),
        "Embeddings": _object(
            {
                "object": {"const": "list"},
                "model": TEXT,
                "data": _array(
                    _object(
                        {
                            "object": {"const": "embedding"},
                            "index": WHOLE,
                            "embedding": {"anyOf": [_array(REAL), TEXT]},
                        }
                    )
                ),
                "usage": _object({"prompt_tokens": WHOLE, "total_tokens": WHOLE}),
            }
        ),
        "Error": ERROR,
    }
)


def describe(decoders: Sequence[str], encoders: Sequence[str]) -> Json:
    """The description of a server with models of these names."""
    writing = dict.fromkeys(("ChatRequest", "CompletionRequest", "ResponseRequest"), decoders)
    models = {"EmbeddingRequest": encoders, **writing}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hearth", "version": __version__},
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                name: _named(schema, models[name]) if name in models else schema
                for name, schema in SCHEMAS.items()
            },
        },
        "paths": {
            "/v1/models": {"get": _get("listModels", "The models served", "Models")},
            "/v1/models/{name}": {
                "get": {
                    **_get("getModel", "One of them", "Model", 404),
                    "parameters": [
                        {"name": "name", "in": "path", "required": True, "schema": TEXT}
                    ],
                }
            },
            "/v1/chat/completions": {
                "post": _post("chat", "Answer a conversation", "ChatRequest", "ChatAnswer", True)
            },
            "/v1/completions": {
                "post": _post(
                    "complete", "Continue texts", "CompletionRequest", "CompletionAnswer", True
                )
            },
            "/v1/responses": {
                "post": _post("respond", "Answer items", "ResponseRequest", "ResponseAnswer", True)
            },
            "/v1/embeddings": {
                "post": _post("embed", "Vectors of texts", "EmbeddingRequest", "Embeddings", False)
            },
        },
    }


def _named(schema: Json, models: Sequence[str]) -> Json:
    """A request whose field `model` is one of those served."""
    properties = schema["properties"]
    named = {**properties["model"], "enum": list(models)} if models else {"not": {}}
    return {**schema, "properties": {**properties, "model": named}}


def _get(name: str, summary: str, answer: str, *statuses: int) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "responses": _responses(answer, (401, *statuses)),
    }


def _post(name: str, summary: str, asked: str, answer: str, streams: bool) -> Json:
    responses = _responses(answer, STATUSES)
    if streams:
        about = "events, each an object as JSON; of chats and completions the last one is [DONE]"
        events = {**_object({"data": TEXT}), "description": about}
        responses["200"]["content"]["text/event-stream"] = {"schema": events}
    body = {"required": True, "content": {"application/json": {"schema": _ref(asked)}}}
    return {"operationId": name, "summary": summary, "requestBody": body, "responses": responses}


def _responses(answer: str, statuses: Any) -> Json:
    found: Json = {"200": {"description": "the answer", "content": _json(answer)}}
    for status in statuses:
        found[str(status)] = {"description": STATUSES[status], "content": _json("Error")}
    return found


def _json(name: str) -> Json:
    return {"application/json": {"schema": _ref(name)}}


async def openapi(request: Request) -> Response:
    """GET /openapi.json"""
    serving: Serving = request.app.state.serving
    decoders, encoders = list[str](), list[str]()
    for served in serving.service.list():
        if served.manifest.kind is ModelKind.DECODER:
            decoders.extend(served.names)
        if served.manifest.embedding is not None:
            encoders.extend(served.names)
    return JSONResponse(describe(decoders, encoders))
