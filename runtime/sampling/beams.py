"""Beam search without the model: which sequences go on, and which are done, as transformers defines it.

`transformers.GenerationMixin._beam_search` (5.x), of one prompt; equal scores are decided for the better beam, then
the lower token, where torch leaves that open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.sampling.chooser import nothing_left
from hearth.runtime.sampling.fast import Changes, best_scores
from hearth.runtime.sampling.history import look_back
from hearth.runtime.sampling.settings import Sampling
from hearth.schemas.errors import UsageError


class EarlyStopping(Enum):
    """When a search with as many hypotheses as it is wide ends; in brackets transformers' `early_stopping`."""

    AT_ONCE = "at once"  # (True)
    HEURISTIC = "heuristic"  # (False) when no running beam, at its present length, is better than the worst of them
    NEVER = "never"  # ("never") the same at the best length that is possible


@dataclass(frozen=True)
class BeamSearch:
    """How wide and how far. A hypothesis' score is the sum of its log probabilities / length ^ length_penalty."""

    width: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = EarlyStopping.HEURISTIC

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UsageError("arguments.beams", f"{self.width} beams", expected="at least 1")
        if not -100 <= self.length_penalty <= 100:
            raise UsageError(
                "arguments.length_penalty",
                f"length_penalty is {self.length_penalty}",
                expected="-100 to 100; above 0 it favours longer texts",
            )


@dataclass(frozen=True)
class Branch:
    """A running beam: it goes on from row `parent` of the logits with a token."""

    parent: int
    token: int


@dataclass(frozen=True)
class Hypothesis:
    """A text that is done: its tokens, the stop token among them, and its score. `ended`: by its follower."""

    tokens: tuple[int, ...]
    score: float
    ended: bool = False


class Follower(Protocol):
    """What else decides how a beam goes on, at one place of it: a grammar, strings that end the text."""

    def allowed(self) -> NDArray[np.uint32] | None:
        """The tokens that may come next, as of `Constraint`."""

    def after(self, token: int) -> Follower:
        """The next place; this one stays."""

    @property
    def ended(self) -> bool:
        """The text is over, without a stop token."""


class Free:
    """Anything goes on."""

    ended = False

    def allowed(self) -> None:
        """All of them."""

    def after(self, token: int) -> Free:
        """The same."""
        return self


FREE = Free()


@dataclass(frozen=True)
class _Beam:
    tokens: tuple[int, ...]
    log_probability: float
    follower: Follower


@dataclass(frozen=True)
class _Candidate:
    """A beam and a token after it."""

    parent: int
    before: _Beam
    token: int
    log_probability: float

    def beam(self) -> _Beam:
        tokens, follower = (*self.before.tokens, self.token), self.before.follower.after(self.token)
        return _Beam(tokens, self.log_probability, follower)


@dataclass
class Beams:
    """The search after the tokens of `prompt`. `max_tokens` ends every beam.

    Of `sampling` the biases, penalties and bans count, applied to log probabilities as transformers does;
    temperature and what follows it do not. What a beam's follower (`begin` is the first) does not allow never comes,
    as with transformers' `prefix_allowed_tokens_fn`: the probabilities of others stay as they are. Where it ends a
    beam, that is a hypothesis, as with `stop_strings`.
    """

    search: BeamSearch
    sampling: Sampling
    prompt: tuple[int, ...]
    stop_ids: frozenset[int]
    max_tokens: int
    begin: InitVar[Follower] = FREE
    done: bool = False
    _running: tuple[_Beam, ...] = ()
    _found: list[Hypothesis] = field(default_factory=list)

    def __post_init__(self, begin: Follower) -> None:
        self._running = (_Beam((), 0.0, begin),)
        self._changes = Changes(self.sampling)

    def step(self, rows: Sequence[NDArray[np.float32]]) -> tuple[Branch, ...]:
        """The beams that run now, by a row of logits f32[V] for each that ran before (one at first).

        InputError `input.no_token` where no text can be finished.
        """
        assert not self.done and len(rows) == len(self._running)
        width = self.search.width
        found = [(Branch(one.parent, one.token), one.beam()) for one in self._candidates(rows)]
        self._finish(beam for _, beam in found[:width] if self._ends(beam))
        going = [(branch, beam) for branch, beam in found if not self._ends(beam)][:width]
        self._running = tuple(beam for _, beam in going)
        self.done = not going or self._no_better()
        if self.done and not self._found:
            raise nothing_left()
        return tuple(branch for branch, _ in going)

    def hypotheses(self, count: int = 1) -> tuple[Hypothesis, ...]:
        """The best texts that are done, best first."""
        return tuple(self._found[:count])

    def _candidates(self, rows: Sequence[NDArray[np.float32]]) -> list[_Candidate]:
        """The best continuations of all beams: enough that `width` of them do not end."""
        count = max(2, 1 + len(self.stop_ids)) * self.search.width
        found = [
            _Candidate(parent, beam, token, beam.log_probability + score)
            for parent, (beam, row) in enumerate(zip(self._running, rows, strict=True))
            for token, score in self._scores(beam, row, count)
        ]
        found.sort(key=lambda one: -one.log_probability)  # stable: the better beam, the lower token
        return found[:count]

    def _scores(self, beam: _Beam, row: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        tokens = (*self.prompt, *beam.tokens)
        seen = look_back(tokens, len(self.prompt), self.sampling.penalty_window)
        return best_scores(row, self._changes, seen, count, beam.follower.allowed())

    def _ends(self, beam: _Beam) -> bool:
        stopped = beam.tokens[-1] in self.stop_ids or beam.follower.ended
        return stopped or len(beam.tokens) >= self.max_tokens

    def _finish(self, beams: Iterable[_Beam]) -> None:
        """Beams that ended among the best `width` candidates; the best `width` hypotheses stay."""
        full = len(self._found) == self.search.width
        if full and self.search.early_stopping is EarlyStopping.AT_ONCE:
            return
        for beam in beams:
            score = self._score(beam, len(beam.tokens))
            self._found.append(Hypothesis(beam.tokens, score, beam.follower.ended))
        self._found.sort(key=lambda one: -one.score)
        del self._found[self.search.width :]

    def _no_better(self) -> bool:
        """There are `width` hypotheses, and nothing that runs is expected to become better than the worst."""
        if len(self._found) < self.search.width:
            return False
        if self.search.early_stopping is EarlyStopping.AT_ONCE:
            return True
        never = self.search.early_stopping is EarlyStopping.NEVER
        longest, best = never and self.search.length_penalty > 0, self._running[0]
        reached = self._score(best, self.max_tokens if longest else len(best.tokens))
        return reached <= self._found[-1].score

    def _score(self, beam: _Beam, length: int) -> float:
        return beam.log_probability / float(length**self.search.length_penalty)
