"""Perplexity: e to the mean surprise, in nats, of every token of a window but its first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TypeVar

import numpy as np

from hearth.runtime.evaluation.scoring import F64, Ids, each_row, surprise
from hearth.runtime.session import Executor

StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Perplexity:
    """Of `tokens` scored tokens in windows of equal length; `nats` is the mean of -log p."""

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
        """Mean bits per token; 2 ** bits is the same value."""
        return self.nats / log(2)


def perplexity(
    model: Executor[StateT], texts: Sequence[Ids], advance: Callable[[int], None]
) -> Perplexity:
    """Over windows i32[S] of equal length; `advance` is told of each window's tokens."""
    nats = []
    for ids in texts:
        nats.append(
            float(np.concatenate([surprise(*pair) for pair in each_row(model, ids)]).mean())
        )
        advance(len(ids))
    return summary(np.array(nats), sum(len(ids) - 1 for ids in texts))


def summary(nats: F64, tokens: int) -> Perplexity:
    """From the mean of each window. Tokens of one window depend on each other, so the error is that of the windows."""
    error = float(nats.std(ddof=1)) / sqrt(nats.size) if nats.size > 1 else None
    return Perplexity(tokens, float(nats.mean()), error)
