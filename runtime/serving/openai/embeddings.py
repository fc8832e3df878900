"""POST /v1/embeddings"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hearth.runtime.encoder import F32
from hearth.runtime.serving.app import Serving
from hearth.runtime.serving.bodies import read_object
from hearth.runtime.serving.bridge import holding, in_thread
from hearth.runtime.serving.held import Held
from hearth.runtime.serving.openai.asked import EmbeddingRequest
from hearth.runtime.serving.openai.errors import about
from hearth.runtime.serving.openai.requests import read_embedding
from hearth.runtime.serving.presence import while_connected
from hearth.runtime.serving.refusals import Refusal
from hearth.runtime.serving.vectors import shortened


async def embeddings(request: Request) -> Response:
    """Texts or token ids in, a vector for each out."""
    asked = read_embedding(await read_object(request))
    serving: Serving = request.app.state.serving
    async with holding(serving.service, asked.model) as held:
        request.state.log = {"model": asked.model}
        work = in_thread(lambda: _embed(held, asked))
        with about("input"):
            vectors, tokens = await while_connected(request, work)
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, asked)}
        for index, vector in enumerate(vectors)
    ]
    serving.metrics.tokens.labels(held.served.name, "prompt").inc(tokens)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": data, "model": asked.model, "usage": usage})


def _embed(held: Held, asked: EmbeddingRequest) -> tuple[F32, int]:
    """The vectors, and the tokens that were read."""
    encoder = held.encoder
    if asked.dimensions is not None and asked.dimensions > encoder.columns:
        raise Refusal(
            400,
            f"dimensions is {asked.dimensions}, expected at most {encoder.columns}, as this model's vectors have",
            parameter="dimensions",
            code="invalid_value",
        )
    encoded = [encoder.encode(each, asked.prompt_name) for each in asked.input]
    rows = shortened(held.embed(encoded), asked.dimensions)
    return rows, sum(len(each.ids) for each in encoded)


def _written(vector: F32, asked: EmbeddingRequest) -> Any:
    if asked.encoding_format == "base64":
        return base64.b64encode(vector.astype(np.dtype("<f4")).tobytes()).decode()
    return vector.tolist()
