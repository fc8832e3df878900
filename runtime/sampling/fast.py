"""A token in one call of the native core: what `order.py` and `draw.py` define, to the bit.

The steps before the temperature change few tokens: those alone go through the same functions, as a vocabulary of
their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.sampling.history import Seen
from hearth.runtime.sampling.logprobs import log_sum
from hearth.runtime.sampling.order import Moment, Named, change, named
from hearth.runtime.sampling.scores import REMOVED, Ids, Scores
from hearth.runtime.sampling.settings import Sampling
from hearth.runtime.sampling.tokens import permitted

_NO_IDS, _NO_SCORES = np.zeros(0, np.int64), np.zeros(0, np.float64)


class Changes:
    """The tokens whose scores the steps before the temperature change, and what becomes of them."""

    def __init__(self, how: Sampling) -> None:
        self._how, self._named = how, named(how)
        self._ids = np.union1d(self._named.biased, self._named.banned)
        self._biased = np.searchsorted(self._ids, self._named.biased)  # places among them
        self._banned = np.searchsorted(self._ids, self._named.banned)

    def of(self, logits: NDArray[np.float32], seen: Seen, shift: float = 0.0) -> tuple[Ids, Scores]:
        """Ids, each once, and their scores, by f32[V]; `shift` is taken off the logits first."""
        ids, places = _joined(seen.tokens, self._ids)
        if not len(ids):
            return _NO_IDS, _NO_SCORES
        answer = np.searchsorted(seen.tokens, seen.answer)
        now = Moment(
            Named(places[self._biased], self._named.bias, places[self._banned]),
            Seen(np.arange(len(seen.tokens)), answer, seen.counts),
        )
        return ids, change(logits[ids].astype(np.float64) - shift, self._how, now)


def _joined(first: Ids, second: Ids) -> tuple[Ids, Ids]:
    """The first, then those of the second that are not among them; the places of the second. Both ascend."""
    if not len(second):
        return first, second
    places = np.searchsorted(first, second)
    new = np.append(first, -1)[places] != second
    places[new] = len(first) + np.arange(np.count_nonzero(new))
    return np.concatenate((first, second[new])), places


def choose_token(
    logits: NDArray[np.float32],
    changed: tuple[Ids, Scores],
    allowed: NDArray[np.uint32] | None,
    how: Sampling,
    number: int,
) -> int | None:
    """The token, by a number of [0, 2^53) where one is drawn; None where none is left."""
    top_k = min(how.top_k, len(logits))  # a file's may be beyond 64 bits
    return native.choose_token(
        logits, *changed, allowed, how.temperature, top_k, how.top_p, how.min_p, how.typical_p, number,
    )  # fmt: skip


def best_scores(
    logits: NDArray[np.float32],
    changes: Changes,
    seen: Seen,
    count: int,
    allowed: NDArray[np.uint32] | None = None,
) -> list[tuple[int, float]]:
    """The best tokens, best first, with their log probabilities after the steps before the temperature."""
    shift = float(logits.max()) + log_sum(logits)
    ids, scores = changes.of(logits, seen, shift)
    plain = logits.copy()
    plain[ids] = -np.inf
    may = None if allowed is None else permitted(allowed, len(logits))
    if may is not None:
        plain[~may] = -np.inf
    tokens = [
        token
        for token in native.best_tokens(plain, min(count, len(plain)))
        if plain[token] > -np.inf
    ]
    found = [(token, float(logits[token]) - shift) for token in tokens]
    kept = scores > REMOVED
    if may is not None:
        kept &= may[ids]
    found += zip(ids[kept].tolist(), scores[kept].tolist(), strict=True)
    return sorted(found, key=lambda one: (-one[1], one[0]))[:count]
