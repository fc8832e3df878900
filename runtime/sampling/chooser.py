"""The choosing of one sequence: its settings, its tokens so far, its random numbers, its constraint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.sampling.choice import Choice
from hearth.runtime.sampling.constraint import Constraint
from hearth.runtime.sampling.draw import draw, greedy
from hearth.runtime.sampling.history import NOTHING_SEEN, look_back
from hearth.runtime.sampling.logprobs import best_tokens, logprobs
from hearth.runtime.sampling.order import Moment, process
from hearth.runtime.sampling.scores import REMOVED, Scores
from hearth.runtime.sampling.seeds import Stream
from hearth.runtime.sampling.settings import Sampling
from hearth.runtime.sampling.state import ChooserState
from hearth.schemas.errors import InputError


class Chooser:
    """Chooses token after token. A call that raises leaves it as it was.

    `tokens` are the prompt's (everything before the answer). With `logprobs` n a choice carries the log
    probability of its token and those of the n best tokens (n may be 0).
    """

    def __init__(
        self,
        sampling: Sampling,
        tokens: Sequence[int] = (),
        *,
        constraint: Constraint | None = None,
        logprobs: int | None = None,
    ) -> None:
        self.sampling, self.constraint, self._logprobs = sampling, constraint, logprobs
        self._tokens, self._prompt = list(tokens), len(tokens)
        self._stream = Stream(sampling.seed)

    def choose(self, logits: NDArray[np.float32]) -> Choice:
        """The next token, by f32[V].

        Raises InputError `input.logits` where a logit is not finite, `input.no_token` where no token is left,
        UsageError where a biased or banned token is beyond V.
        """
        token = self._chosen(self._scores(logits))
        self.accept(token)
        if self._logprobs is None:
            return Choice(token)
        best = best_tokens(logits, self._logprobs)
        values = logprobs(logits, (token, *best))
        return Choice(token, values[0], tuple(zip(best, values[1:], strict=True)))

    def accept(self, token: int) -> None:
        """A token that the answer goes on with, chosen here or elsewhere."""
        if self.constraint is not None:
            self.constraint.accept(token)
        self._tokens.append(token)

    def copy(self) -> Chooser:
        """One that goes its own way from here, with the same random numbers."""
        twin = Chooser(
            self.sampling,
            self._tokens,
            constraint=self.constraint.copy() if self.constraint is not None else None,
            logprobs=self._logprobs,
        )
        twin._prompt, twin._stream = self._prompt, self._stream.copy()
        return twin

    def state(self) -> ChooserState:
        """All but the constraint."""
        return ChooserState(self.sampling, tuple(self._tokens), self._prompt, self._stream.draws)

    @classmethod
    def restored(
        cls,
        state: ChooserState,
        *,
        constraint: Constraint | None = None,
        logprobs: int | None = None,
    ) -> Chooser:
        """Goes on where the state was taken; a fresh `constraint` is fed the answer's tokens."""
        chooser = cls(state.sampling, state.tokens[: state.prompt], logprobs=logprobs)
        chooser.constraint = constraint
        for token in state.tokens[state.prompt :]:
            chooser.accept(token)
        chooser._stream = Stream(state.sampling.seed, state.draws)
        return chooser

    def _scores(self, logits: NDArray[np.float32]) -> Scores:
        scores = logits.astype(np.float64)
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        if bad:
            raise _overflowed(bad, len(scores))
        self.sampling.check_vocabulary(len(scores))
        scores = process(scores, self.sampling, self._moment())
        if scores.max() == REMOVED:
            raise _nothing_left()
        return scores

    def _moment(self) -> Moment:
        how = self.sampling
        looks = (how.repetition_penalty, how.presence_penalty, how.frequency_penalty) != (1, 0, 0)
        return Moment(
            look_back(self._tokens, self._prompt, how.penalty_window) if looks else NOTHING_SEEN,
            self.constraint.allowed() if self.constraint is not None else None,
        )

    def _chosen(self, scores: Scores) -> int:
        return greedy(scores) if self.sampling.greedy else draw(scores, self._stream.next())


def _overflowed(bad: int, count: int) -> InputError:
    return InputError(
        "input.logits",
        f"{bad} of {count} logits are not finite after these tokens",
        expected="numbers; the model overflows on this input",
        remedy="compile it with float weights, f32 KV and no quantised activations to see whether it still does",
    )


def _nothing_left() -> InputError:
    return InputError(
        "input.no_token",
        "no token may come next",
        expected="one that is neither banned nor against the constraint",
        remedy="ban fewer tokens, or let the constraint allow an end token",
    )
