"""Which tokens were there, and how often: what penalties look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hearth.runtime.sampling.scores import Ids

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Seen:
    """Distinct tokens of the window, and those of the answer in it with their counts."""

    tokens: Ids
    answer: Ids
    counts: Ids  # of `answer`


NOTHING_SEEN = Seen(_NONE, _NONE, _NONE)


def look_back(tokens: Sequence[int], prompt: int, window: int) -> Seen:
    """Over the last `window` of prompt and answer (0: all); the first `prompt` tokens are the prompt."""
    first = max(len(tokens) - window, 0) if window else 0
    answer, counts = np.unique(np.array(tokens[max(first, prompt) :], np.int64), return_counts=True)
    return Seen(np.unique(np.array(tokens[first:], np.int64)), answer, counts.astype(np.int64))


class History:
    """`look_back` kept up to date token by token, without another look at all of them."""

    def __init__(self, tokens: list[int], prompt: int, window: int) -> None:
        """`tokens` is the list that grows; each growth is told to `grew`."""
        self._tokens, self._prompt, self._window = tokens, prompt, window
        self._first = max(len(tokens) - window, 0) if window else 0
        everything = np.array(tokens[self._first :], np.int64)
        self._all = _Counted(everything)
        self._answer = _Counted(everything[max(prompt - self._first, 0) :])

    def grew(self) -> None:
        """A token was appended."""
        self._all.add(self._tokens[-1])
        self._answer.add(self._tokens[-1])
        if self._window and len(self._tokens) - self._first > self._window:
            self._all.drop(self._tokens[self._first])
            if self._first >= self._prompt:
                self._answer.drop(self._tokens[self._first])
            self._first += 1

    def seen(self) -> Seen:
        """As of now."""
        return Seen(self._all.tokens, self._answer.tokens, self._answer.counts)


class _Counted:
    """Distinct tokens in ascending order with their counts."""

    def __init__(self, tokens: Ids) -> None:
        self.tokens, counts = np.unique(tokens, return_counts=True)
        self.counts: Ids = counts.astype(np.int64)

    def add(self, token: int) -> None:
        place = int(np.searchsorted(self.tokens, token))
        if place < len(self.tokens) and self.tokens[place] == token:
            self.counts[place] += 1
        else:
            self.tokens = np.insert(self.tokens, place, token)
            self.counts = np.insert(self.counts, place, 1)

    def drop(self, token: int) -> None:
        place = int(np.searchsorted(self.tokens, token))
        self.counts[place] -= 1
        if not self.counts[place]:
            self.tokens = np.delete(self.tokens, place)
            self.counts = np.delete(self.counts, place)
