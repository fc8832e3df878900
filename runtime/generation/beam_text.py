"""A beam's text as its search follows it: read back token by token, within a grammar, up to a string that ends it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.generation.writing import Decode, Request
from hearth.runtime.sampling import Constraint
from hearth.runtime.text.detokenizer import Detokenizer
from hearth.runtime.text.stop_strings import StopStrings


class BeamText:
    """One place of it (`hearth.runtime.sampling.beams.Follower`), as a `Writer` would be there."""

    def __init__(
        self, text: Detokenizer, stops: StopStrings, constraint: Constraint | None, ended: bool
    ) -> None:
        self._text, self._stops, self._constraint = text, stops, constraint
        self.ended = ended

    @classmethod
    def begin(
        cls,
        request: Request,
        prompt: Sequence[int],
        decode: Decode,
        constraint: Constraint | None,
    ) -> BeamText:
        """Before the first token."""
        return cls(Detokenizer(decode, prompt), StopStrings(request.stop), constraint, False)

    def allowed(self) -> NDArray[np.uint32] | None:
        """What the grammar lets come next."""
        return None if self._constraint is None else self._constraint.allowed()

    def after(self, token: int) -> BeamText:
        """The place after a token."""
        text, stops = self._text.copy(), self._stops.copy()
        constraint = self._constraint and self._constraint.copy()
        _, ended = stops.push(text.push(token))
        if constraint is not None:
            constraint.accept(token)
            ended = ended or constraint.done
        return BeamText(text, stops, constraint, ended)
