"""The choosing of one sequence: its settings, its tokens so far, its random numbers, its constraint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.sampling.choice import Choice
from hearth.runtime.sampling.constraint import Constraint
from hearth.runtime.sampling.fast import Changes, choose_token
from hearth.runtime.sampling.history import NOTHING_SEEN, History
from hearth.runtime.sampling.logprobs import top_logprobs
from hearth.runtime.sampling.seeds import random_number
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
        self._vocabulary = 0  # the size that the settings' tokens were checked against
        self._start(0)

    def choose(self, logits: NDArray[np.float32]) -> Choice:
        """The next token, by f32[V].

        Raises InputError `input.logits` where a logit is not finite, `input.no_token` where no token is left,
        UsageError where a biased or banned token is beyond V.
        """
        logits = np.ascontiguousarray(logits, np.float32)
        token = self._chosen(logits)
        self.accept(token)
        if self._logprobs is None:
            return Choice(token)
        return Choice(token, *top_logprobs(logits, token, self._logprobs))

    def accept(self, token: int) -> None:
        """A token that the answer goes on with, chosen here or elsewhere."""
        if self.constraint is not None:
            self.constraint.accept(token)
        self._tokens.append(token)
        if self._history is not None:
            self._history.grew()

    def copy(self) -> Chooser:
        """One that goes its own way from here, with the same random numbers."""
        constraint = self.constraint.copy() if self.constraint is not None else None
        return self._with(self.state(), constraint, self._logprobs)

    def state(self) -> ChooserState:
        """All but the constraint."""
        return ChooserState(self.sampling, tuple(self._tokens), self._prompt, self._draws)

    @classmethod
    def restored(
        cls,
        state: ChooserState,
        *,
        constraint: Constraint | None = None,
        logprobs: int | None = None,
    ) -> Chooser:
        """Goes on where the state was taken; a fresh `constraint` is fed the answer's tokens."""
        if constraint is not None:
            for token in state.tokens[state.prompt :]:
                constraint.accept(token)
        return cls._with(state, constraint, logprobs)

    @classmethod
    def _with(
        cls, state: ChooserState, constraint: Constraint | None, logprobs: int | None
    ) -> Chooser:
        chooser = cls(state.sampling, state.tokens, constraint=constraint, logprobs=logprobs)
        chooser._prompt = state.prompt
        chooser._start(state.draws)
        return chooser

    def _start(self, draws: int) -> None:
        how = self.sampling
        looks = (how.repetition_penalty, how.presence_penalty, how.frequency_penalty) != (1, 0, 0)
        self._changes = Changes(how)
        self._history = History(self._tokens, self._prompt, how.penalty_window) if looks else None
        self._draws = draws

    def _chosen(self, logits: NDArray[np.float32]) -> int:
        how = self.sampling
        if len(logits) != self._vocabulary:
            how.check_vocabulary(len(logits))
            self._vocabulary = len(logits)
        changed = self._changes.of(logits, self._history.seen() if self._history else NOTHING_SEEN)
        allowed = self._allowed()
        number = 0 if how.greedy else random_number(how.seed, self._draws)
        token = choose_token(logits, changed, allowed, how, number)
        if token is None:
            bad = native.not_finite(logits)
            raise overflowed(bad, len(logits)) if bad else nothing_left()
        self._draws += not how.greedy
        return token

    def _allowed(self) -> NDArray[np.uint32] | None:
        mask = self.constraint.allowed() if self.constraint is not None else None
        return None if mask is None else np.ascontiguousarray(mask, np.uint32)


def overflowed(bad: int, count: int) -> InputError:
    """`input.logits`: so many of the logits are no numbers."""
    return InputError(
        "input.logits",
        f"{bad} of {count} logits are not finite after these tokens",
        expected="numbers; the model overflows on this input",
        remedy="compile it with float weights, f32 KV and no quantised activations to see whether it still does",
    )


def nothing_left() -> InputError:
    """`input.no_token`"""
    return InputError(
        "input.no_token",
        "no token may come next",
        expected="one that is neither banned nor against the constraint",
        remedy="ban fewer tokens, or let the constraint allow an end token",
    )
