"""Perplexity: e to the mean surprise, in nats, of the scored tokens of all windows (all but a window's first)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TypeVar

import numpy as np

from hearth.runtime.evaluation.scoring import F64, each_row, surprise
from hearth.runtime.evaluation.windows import Window
from hearth.runtime.session import Reader

StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Perplexity:
    """Of `tokens` scored tokens; `nats` is the mean of -log p over all of them."""

    tokens: int
    nats: float
    nats_error: float | None  # standard error of the mean over windows; None for one window

    @property
    def value(self) -> float:
        """e ** nats"""
        return exp(self.nats)

    @property
    def error(self) -> float | None:
        """Standard error of the value, to first order."""
        return None if self.nats_error is None else self.value * self.nats_error

    @property
    def bits(self) -> float:
        """Mean of -log2 p; 2 ** bits is the same value, as information theory writes it."""
        return self.nats / log(2)


def perplexity(
    model: Reader[StateT], texts: Sequence[Window], advance: Callable[[int], None]
) -> Perplexity:
    """Over windows; `advance` is told of each window's tokens."""
    return summary(list(window_nats(model, texts, advance)))


def window_nats(
    model: Reader[StateT], texts: Sequence[Window], advance: Callable[[int], None]
) -> Iterator[F64]:
    """-log p of the scored tokens of each window, f64[scored]."""
    for window in texts:
        rows = [surprise(*pair) for pair in each_row(model, window.ids)]
        yield np.concatenate(rows)[-window.scored :]
        advance(len(window.ids))


def summary(nats: Sequence[F64]) -> Perplexity:
    """From -log p of the scored tokens of each window. Tokens of one window depend on each other, so the standard error
    is that of the windows' means."""
    means, counts = np.array([part.mean() for part in nats]), np.array([part.size for part in nats])
    error = standard_error(means) if means.size > 1 else None
    return Perplexity(int(counts.sum()), float(means @ counts / counts.sum()), error)


def standard_error(means: F64) -> float:
    """Of the mean of the windows' means; 0 for one window, of which nothing is known."""
    return float(means.std(ddof=1)) / sqrt(means.size) if means.size > 1 else 0.0
