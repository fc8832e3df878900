"""Logits of every token of a text, a chunk at a time, and what they say of the token that follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.session import Logits, Reader

F64 = NDArray[np.float64]
Ids = NDArray[np.int32]
ROWS = 16  # of logits that are worked on at once: their doubles stay small beside the model

StateT = TypeVar("StateT")


class Scorer(Protocol):
    """Takes logits f32[n, V] and the ids i32[n] that follow them."""

    def __call__(self, logits: Logits, following: Ids) -> None: ...


def each_row(
    model: Reader[StateT], ids: Ids, chunk: int | None = None
) -> Iterator[tuple[Logits, Ids]]:
    """(logits f32[n, V], following ids i32[n]) of a text from an empty cache, n <= ROWS, in order.

    All rows but the last token's, which nothing follows; the same n for the same `chunk` (the model's own). The
    arrays are the caller's until the next pair.
    """
    size = chunk or model.chunk
    state, last = model.new_state(), len(ids) - 1
    rows = np.empty((min(size, len(ids)), model.vocab), np.float32)
    for start in range(0, last, size):
        part = ids[start : min(start + size, last)]
        found = rows[: len(part)]
        model.run(state, "prefill", part, start, found)
        for row in range(0, len(part), ROWS):
            following = ids[start + row + 1 : start + min(row + ROWS, len(part)) + 1]
            yield found[row : row + len(following)], following


def log_probabilities(logits: Logits) -> F64:
    """log softmax f64[n, V] of logits f32[n, V]."""
    shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(shifted)


def surprise(logits: Logits, following: Ids) -> F64:
    """-log p of the tokens that follow, in nats: f64[n]."""
    values = logits.astype(np.float64)
    most = values.max(axis=1)
    total = np.log(np.exp(values - most[:, None]).sum(axis=1))
    return np.asarray(most + total - values[np.arange(len(following)), following])
