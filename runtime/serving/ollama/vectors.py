"""Texts to vectors for /api/embed and /api/embeddings."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.serving.app import Serving
from hearth.runtime.serving.bridge import holding, in_thread
from hearth.runtime.serving.held import Held
from hearth.runtime.serving.ollama.fields import refused
from hearth.runtime.serving.ollama.requests import Embed
from hearth.runtime.serving.vectors import shortened
from hearth.runtime.text.tokenizer import Encoded

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """f32[n, E] for n texts, with the tokens read and the seconds of loading and in all."""

    rows: F32
    tokens: int
    load_s: float
    total_s: float


async def embed(serving: Serving, asked: Embed) -> Vectors:
    """A vector for each text, as the archive pools and scales them (`dimensions`: their first columns)."""
    began = time.perf_counter()
    async with holding(serving.service, asked.model, asked.keep_alive) as held:
        texts = await in_thread(lambda: _encoded(held, asked))
        rows = shortened(await in_thread(lambda: held.embed(texts)), asked.dimensions)
        tokens = sum(len(text.ids) for text in texts)
        return Vectors(rows, tokens, held.load_s, time.perf_counter() - began)


def _encoded(held: Held, asked: Embed) -> list[Encoded]:
    """Blocks. Texts too long are cut, or refused where `truncate` is false."""
    encoder = held.encoder
    if asked.dimensions is not None and asked.dimensions > encoder.columns:
        raise refused("dimensions", f"is {asked.dimensions}", f"at most {encoder.columns}")
    if asked.truncate:
        return [encoder.encode(text) for text in asked.texts]
    before, tokenizer = encoder.instructions.before(None), encoder.tokenizer
    return [encoder.encode(tokenizer.encode_pair(before + text, None)) for text in asked.texts]
