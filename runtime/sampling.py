"""From logits to a token: processors (tokens, logits) -> logits, then a sampler logits -> token.

The same logits and seed give the same token on every host: float64 in a fixed order, an exp of plain
additions and multiplications (a library's differs in the last bit between CPUs), ties by the lower id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.errors import InputError, UsageError

Scores = NDArray[np.float64]
Processor = Callable[[Sequence[int], Scores], Scores]
Sampler = Callable[[Scores], int]

REMOVED = -math.inf  # the score of a token that must not be chosen
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
_EXP_SERIES = tuple(1.0 / math.factorial(term) for term in range(13, -1, -1))
_BLOCK = 4096  # numbers at a time: what the loop over the series reads stays in the cache


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: greedily where the temperature is 0.

    temperature divides the logits; top_k keeps the k best (0: all); top_p keeps the smallest set of the best
    whose probabilities add up to p (1: all); applied in this order, as Hugging Face does.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check("arguments.temperature", self.temperature, 0 <= self.temperature < math.inf, ">= 0")
        _check("arguments.top_k", self.top_k, self.top_k >= 0, "a count, 0 for all")
        _check("arguments.top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("arguments.seed", self.seed, 0 <= self.seed < 2**64, "0 to 2^64 - 1")


def _check(code: str, value: float, good: bool, expected: str) -> None:
    if not good:
        name = code.partition(".")[2]
        raise UsageError(code, f"{name} is {value}", expected=expected)


GREEDY = Sampling(temperature=0.0)


def processors(sampling: Sampling) -> tuple[Processor, ...]:
    """The processors in order; none where they would change nothing."""
    if sampling.temperature == 0:
        return ()
    chosen: list[Processor] = []
    if sampling.temperature != 1:
        chosen.append(temperature(sampling.temperature))
    if sampling.top_k:
        chosen.append(top_k(sampling.top_k))
    if sampling.top_p < 1:
        chosen.append(top_p(sampling.top_p))
    return tuple(chosen)


def sampler(sampling: Sampling) -> Sampler:
    """Greedy, or a random draw that goes on from the seed with every token."""
    return greedy if sampling.temperature == 0 else draw(uniform(sampling.seed))


def temperature(value: float) -> Processor:
    """scores / value; the best score is moved to 0 first, so that no value overflows."""

    def process(tokens: Sequence[int], scores: Scores) -> Scores:
        with np.errstate(over="ignore"):
            scaled: Scores = (scores - scores.max()) / value
        return scaled

    return process


def top_k(count: int) -> Processor:
    """Keep the scores not below the count-th best (all that equal it, too)."""

    def process(tokens: Sequence[int], scores: Scores) -> Scores:
        if count >= len(scores):
            return scores
        bound = np.partition(scores, -count)[-count]
        return np.where(scores >= bound, scores, REMOVED)

    return process


def top_p(share: float) -> Processor:
    """Keep a score where the probabilities of all better ones add up to less than `share`."""

    def process(tokens: Sequence[int], scores: Scores) -> Scores:
        ids = np.flatnonzero(scores > REMOVED)
        alive = scores[ids]
        best = ids[_nucleus(alive, share)]
        kept = np.full_like(scores, REMOVED)
        kept[best] = scores[best]
        return kept

    return process


def _nucleus(scores: Scores, share: float) -> NDArray[np.intp]:
    """The best ids in order, as many as it takes for their probabilities to reach the share.

    Sorts only as many as are likely needed, eight times more where they were not enough.
    """
    weights = exp(scores - scores.max())
    bound = share * float(np.cumsum(weights)[-1])
    count = 256
    while True:
        best = best_first(scores, count)
        before = np.concatenate(([0.0], np.cumsum(weights[best])[:-1]))
        inside = int(np.searchsorted(before, bound, side="left"))
        if inside < len(best) or len(best) == len(scores):
            return best[: max(inside, 1)]
        count *= 8


def best_first(scores: Scores, count: int) -> NDArray[np.intp]:
    """Ids of at least the `count` best scores, best first, equal ones by the lower id."""
    if count < len(scores):
        bound = np.partition(scores, -count)[-count]
        ids = np.flatnonzero(scores >= bound)
    else:
        ids = np.arange(len(scores))
    return ids[np.argsort(-scores[ids], kind="stable")]


def greedy(scores: Scores) -> int:
    """The best score; among equal ones the lowest id."""
    return int(np.argmax(scores))


def draw(numbers: Callable[[], float]) -> Sampler:
    """Token i with probability softmax(scores)[i]: one number of [0, 1) each."""

    def sample(scores: Scores) -> int:
        ids = np.flatnonzero(scores > REMOVED)
        weights = np.cumsum(exp(scores[ids] - scores.max()))
        place = int(np.searchsorted(weights, numbers() * weights[-1], side="right"))
        return int(ids[min(place, len(ids) - 1)])

    return sample


def uniform(seed: int) -> Callable[[], float]:
    """Numbers of [0, 1) with 53 bits, from the raw stream of PCG64 (which numpy keeps stable)."""
    stream = np.random.PCG64(seed)
    return lambda: float(int(stream.random_raw()) >> 11) * 2.0**-53


def exp(x: Scores) -> Scores:
    """e^x for x <= 0 within a few units in the last place, the same bits on every host; 0 below -708."""
    result = np.empty_like(x)
    for start in range(0, len(x), _BLOCK):
        _exp_block(x[start : start + _BLOCK], result[start : start + _BLOCK])
    return result


def _exp_block(x: Scores, y: Scores) -> None:
    """2^n e^r with |r| <= ln2 / 2: the Taylor series, one rounding per operation."""
    r = np.maximum(x, -708.0)
    n = np.rint(r * 1.4426950408889634)
    r -= n * _LN2_HIGH
    r -= n * _LN2_LOW
    y[:] = _EXP_SERIES[0]
    for term in _EXP_SERIES[1:]:
        y *= r
        y += term
    np.ldexp(y, n.astype(np.int32), out=y)
    y[x < -708.0] = 0.0


def choose(
    tokens: Sequence[int],
    logits: NDArray[np.float32],
    chain: Sequence[Processor],
    sample: Sampler,
) -> int:
    """One token: the logits through every processor, then the sampler."""
    scores = logits.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise InputError(
            "input.logits",
            f"{bad} of {len(scores)} logits are not finite after these tokens",
            expected="numbers; the model overflows on this input",
            remedy="compile it with float weights, f32 KV and no quantised activations to see whether it still does",
        )
    for process in chain:
        scores = process(tokens, scores)
    return sample(scores)
