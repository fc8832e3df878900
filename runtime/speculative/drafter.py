"""What guesses: of the tokens so far, those that may follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Drafter(Protocol):
    """Guesses for one text at a time. What it guesses changes the speed and nothing else."""

    def guess(self, tokens: Sequence[int], count: int) -> Sequence[int]:
        """At most `count` tokens that may follow; `tokens` are all of the text, of which more come with each call."""

    def forget(self) -> None:
        """The next call is of another text."""
