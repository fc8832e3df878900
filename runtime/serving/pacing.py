"""How many tokens a step takes that reads prompts beside rows that write, so that it ends within a time."""

from __future__ import annotations

from dataclasses import dataclass

GAP_S = 0.030  # between two tokens of a row, where a step that reads LEAST tokens takes no longer
LEAST = 12  # tokens of prompts in any step: the weights are read once for all, so fewer cost nearly as much
START = 24  # tokens of the first step, before anything is known


@dataclass
class Pacing:
    """The tokens of a step, learned from what steps took.

    A step of n tokens takes some a + b n seconds: to read the weights, and to multiply by them. From n, the step
    after it has n gap_s / (a + b n) tokens. That is below what takes gap_s where n is, so it never goes too far, and
    comes nearer by a / gap_s each time. Neither a nor b need be known, and they may change.
    """

    gap_s: float
    most: int
    tokens: int = START

    def share(self, writing: int) -> int:
        """Tokens of prompts beside so many that are written."""
        return max(1, min(max(LEAST, self.tokens - writing), self.most - writing))

    def learn(self, tokens: int, took_s: float) -> None:
        """A step took so long. One with room left that was in time does not say how many more there may be."""
        if tokens >= self.tokens or took_s > self.gap_s:
            self.tokens = round(min(tokens * self.gap_s / max(took_s, 1e-9), self.most))
