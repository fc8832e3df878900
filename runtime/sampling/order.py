"""The order in which scores are changed: transformers' where it has one (docs/sampling.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.sampling import penalties, tokens
from hearth.runtime.sampling.history import NOTHING_SEEN, Seen
from hearth.runtime.sampling.min_p import min_p
from hearth.runtime.sampling.scores import REMOVED, Ids, Scores
from hearth.runtime.sampling.settings import Sampling
from hearth.runtime.sampling.temperature import temperature
from hearth.runtime.sampling.top_k import top_k
from hearth.runtime.sampling.top_p import top_p
from hearth.runtime.sampling.typical_p import typical_p


@dataclass(frozen=True)
class Named:
    """The tokens that the settings name, as arrays."""

    biased: Ids
    bias: Scores  # of `biased`
    banned: Ids


def named(how: Sampling) -> Named:
    """Of these settings."""
    return Named(
        np.array([token for token, _ in how.logit_bias], np.int64),
        np.array([bias for _, bias in how.logit_bias], np.float64),
        np.array(how.banned, np.int64),
    )


@dataclass(frozen=True)
class Moment:
    """What steps look at beside the settings: tokens by name, those so far, what a constraint allows (None: all)."""

    named: Named
    seen: Seen = NOTHING_SEEN
    allowed: NDArray[np.uint32] | None = None


@dataclass(frozen=True)
class Step:
    """One change: when it is made, and what it does."""

    name: str  # the field of Sampling, or "constraint"
    wanted: Callable[[Sampling, Moment], bool]
    apply: Callable[[Scores, Sampling, Moment], Scores]


def _allowed(scores: Scores, how: Sampling, now: Moment) -> Scores:
    return scores if now.allowed is None else tokens.allowed(scores, now.allowed)


# fmt: off
CHANGES = (  # greedily, too
    Step("logit_bias", lambda how, now: bool(how.logit_bias),
         lambda scores, how, now: tokens.logit_bias(scores, now.named.biased, now.named.bias)),
    Step("repetition_penalty", lambda how, now: how.repetition_penalty != 1,
         lambda scores, how, now: penalties.repetition_penalty(scores, now.seen.tokens, how.repetition_penalty)),
    Step("presence_penalty", lambda how, now: how.presence_penalty != 0,
         lambda scores, how, now: penalties.presence_penalty(scores, now.seen.answer, how.presence_penalty)),
    Step("frequency_penalty", lambda how, now: how.frequency_penalty != 0,
         lambda scores, how, now: penalties.frequency_penalty(
             scores, now.seen.answer, now.seen.counts, how.frequency_penalty)),
    Step("banned", lambda how, now: bool(how.banned),
         lambda scores, how, now: tokens.banned(scores, now.named.banned)),
    Step("constraint", lambda how, now: now.allowed is not None, _allowed),
)
WARPS = (  # where a token is drawn
    Step("temperature", lambda how, now: True,
         lambda scores, how, now: temperature(scores, how.temperature)),
    Step("top_k", lambda how, now: how.top_k > 0,
         lambda scores, how, now: top_k(scores, how.top_k)),
    Step("top_p", lambda how, now: how.top_p < 1,
         lambda scores, how, now: top_p(scores, how.top_p)),
    Step("min_p", lambda how, now: how.min_p > 0,
         lambda scores, how, now: min_p(scores, how.min_p)),
    Step("typical_p", lambda how, now: how.typical_p < 1,
         lambda scores, how, now: typical_p(scores, how.typical_p)),
)
# fmt: on
ORDER = CHANGES + WARPS


def process(scores: Scores, how: Sampling, now: Moment) -> Scores:
    """Through every step that is wanted; all REMOVED where no token is left to choose from."""
    scores = change(scores, how, now)
    if how.greedy or scores.max() == REMOVED:
        return scores
    return _through(WARPS, scores, how, now)


def change(scores: Scores, how: Sampling, now: Moment) -> Scores:
    """Through the steps that a greedy choice has, too."""
    return _through(CHANGES, scores, how, now)


def _through(steps: tuple[Step, ...], scores: Scores, how: Sampling, now: Moment) -> Scores:
    for step in steps:
        if step.wanted(how, now):
            scores = step.apply(scores, how, now)
    return scores
