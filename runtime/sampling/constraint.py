"""What may come next in one sequence: a grammar, say."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Constraint(Protocol):
    """One per sequence; told of every token that is chosen."""

    def allowed(self) -> NDArray[np.uint32] | None:
        """Bit i % 32 of word i // 32: token i may come next; None: all may. Words that lack count as 0."""

    def accept(self, token: int) -> None:
        """The token chosen."""

    @property
    def done(self) -> bool:
        """Only an end token may follow."""

    def copy(self) -> Constraint:
        """One that goes its own way from here."""
