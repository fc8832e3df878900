"""A token that was chosen, with its log probability where that was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """`logprob` is the natural log of softmax(raw logits)[token], `top` such pairs of the best, best first."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
