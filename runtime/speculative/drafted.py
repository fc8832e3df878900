"""A session that reads guesses along with each token, so that the logits after the right ones are there already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hearth.runtime.session import Logits, Session
from hearth.runtime.speculative.drafter import Drafter

MOST = 8  # guesses in one run: as many rows cost little more than one (docs/performance.md)


@dataclass
class Acceptance:
    """How guesses fared so far."""

    drafted: int = 0
    accepted: int = 0

    @property
    def share(self) -> float | None:
        """Of the guesses, those that were right."""
        return self.accepted / self.drafted if self.drafted else None


class Pace:
    """How many guesses to ask for: two more where all were right, one less where not (transformers' heuristic)."""

    def __init__(self, most: int) -> None:
        self._most, self.count = most, min(4, most)

    def learn(self, drafted: int, accepted: int) -> None:
        """After a run."""
        if drafted:
            change = 2 if accepted == drafted else -1
            self.count = min(max(self.count + change, 1), self._most)


class Drafted:
    """Gives the logits that the session gives, token by token; the session never holds what was only guessed."""

    def __init__(
        self, session: Session[Any], drafter: Drafter, acceptance: Acceptance | None = None
    ) -> None:
        self._session, self._drafter = session, drafter
        self.acceptance = acceptance or Acceptance()
        self._pace = Pace(max(min(MOST, session.executor.logit_rows - 1), 0))
        self._text = list(session.tokens)
        self._ahead: deque[tuple[int, Logits]] = deque()  # guesses that are in the cache, logits
        self._at = session.position, session.adapter  # where the first of them belongs
        self._drafted = self._accepted = 0  # of the last run
        drafter.forget()

    @property
    def position(self) -> int:
        """As of the session."""
        return self._session.position

    @property
    def context(self) -> int:
        """As of the session."""
        return self._session.context

    @property
    def tokens(self) -> tuple[int, ...]:
        """As of the session."""
        return self._session.tokens

    def prefill(self, ids: Sequence[int], *, between: Callable[[], None] | None = None) -> Logits:
        """As of the session."""
        logits = self._session.prefill(ids, between=between)
        self._text = list(self._session.tokens)
        self._drafter.forget()
        return logits

    def rewind(self, position: int) -> None:
        """As of the session; `prefill` is to follow."""
        self._session.rewind(position)

    def shared(self, ids: Sequence[int]) -> int:
        """As of the session."""
        return self._session.shared(ids)

    def decode(self, token: int) -> Logits:
        """The logits f32[V] after the token, with the bits that the session gives; often without a run."""
        self._text.append(token)
        if self._is_ahead(token):
            _, logits = self._ahead.popleft()
            self._session.keep(np.array([token], np.int32))
            self._accepted += 1
            self.acceptance.accepted += 1
        else:
            logits = self._run(token)
        self._at = self._session.position, self._session.adapter
        return logits

    def _is_ahead(self, token: int) -> bool:
        """Guessed, and nobody else has used the session since."""
        here = self._session.position, self._session.adapter
        return bool(self._ahead) and self._ahead[0][0] == token and self._at == here

    def _run(self, token: int) -> Logits:
        self._ahead.clear()
        self._pace.learn(self._drafted, self._accepted)
        position = self._session.position
        room = min(self._pace.count, self._session.context - position - 1)
        guesses = guessed(self._drafter, self._text, room, self._session.executor.vocab)
        self._drafted, self._accepted = len(guesses), 0
        self.acceptance.drafted += len(guesses)
        if not guesses:
            return self._session.decode(token)
        logits = self._session.verify([token, *guesses])
        self._session.rewind(position + 1)  # keys and values of the guesses stay where they are
        self._ahead.extend(zip(guesses, logits[1:], strict=True))
        first: Logits = logits[0]
        return first


def guessed(drafter: Drafter, text: Sequence[int], room: int, vocab: int) -> Sequence[int]:
    """Guesses that the model can read: at most `room`, up to the first id that it does not have."""
    guesses = drafter.guess(text, room)[:room] if room > 0 else ()
    bad = next((index for index, each in enumerate(guesses) if each >= vocab), len(guesses))
    return guesses[:bad]
