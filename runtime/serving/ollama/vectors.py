"""Texts to vectors for /api/embed and /api/embeddings."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.serving.app import Serving
from hearth.runtime.serving.bridge import holding, in_thread
from hearth.runtime.serving.ollama.fields import refused
from hearth.runtime.serving.ollama.requests import Embed
from hearth.runtime.serving.service import Held
from hearth.runtime.tokenizer import Encoded

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
        rows = await in_thread(lambda: held.embed(texts)) if texts else np.empty((0, 0), np.float32)
        rows = rows if asked.dimensions is None or not texts else shortened(rows, asked.dimensions)
        tokens = sum(len(text.ids) for text in texts)
        return Vectors(rows, tokens, held.load_s, time.perf_counter() - began)


def _encoded(held: Held, asked: Embed) -> list[Encoded]:
    """Blocks. Texts too long are cut, or refused where `truncate` is false."""
    encoder = held.encoder
    if asked.truncate:
        return [encoder.encode(text) for text in asked.texts]
    return [encoder.encode(encoder.tokenizer.encode_pair(text, None)) for text in asked.texts]


def shortened(rows: F32, columns: int) -> F32:
    """The first columns, of length 1: what models trained so (Matryoshka) are made for."""
    if columns > rows.shape[1]:
        raise refused("dimensions", f"is {columns}", f"at most {rows.shape[1]}")
    return normalised(rows[:, :columns])


def normalised(rows: F32) -> F32:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    lengths[lengths == 0] = 1
    scaled: F32 = rows / lengths
    return scaled
