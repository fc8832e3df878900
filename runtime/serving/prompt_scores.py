"""The log probabilities of a prompt's own tokens, out of the logits that reading it gives."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.runtime import native
from hearth.runtime.sampling.choice import Choice
from hearth.runtime.sampling.chooser import overflowed
from hearth.runtime.sampling.logprobs import top_logprobs
from hearth.runtime.serving.jobs import Read
from hearth.runtime.session import Logits


class PromptScores:
    """Of one prompt as it is read, part after part, with the `top` best tokens at each place."""

    def __init__(self, prompt: Sequence[int], top: int) -> None:
        self._prompt, self._top, self._read = prompt, top, 0

    def push(self, logits: Logits) -> Read:
        """By f32[T, V] after the next T tokens: those that follow them, the first of all (which follows none) before.

        Raises InputError `input.logits` where a logit is not finite.
        """
        bad = sum(native.not_finite(row) for row in logits)
        if bad:
            raise overflowed(bad, logits.size)
        first = () if self._read else (Choice(self._prompt[0]),)
        begin = self._read + 1
        self._read += len(logits)
        following = self._prompt[begin : self._read + 1]
        return Read(
            (*first, *(self._score(token, row) for token, row in zip(following, logits, strict=False)))
        )  # fmt: skip

    def _score(self, token: int, row: Logits) -> Choice:
        return Choice(token, *top_logprobs(row, token, self._top))
