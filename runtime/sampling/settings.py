"""What a caller can ask of sampling, each value checked; `order.py` says what is applied when."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hearth.schemas.errors import UsageError

LARGEST = 1e6  # of penalties and biases: beyond it scores could overflow, and none is of use
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: greedily where the temperature is 0. docs/sampling.md defines every field.

    temperature divides the scores; top_k keeps the k best (0: all); top_p keeps the smallest set of the
    best whose probabilities add up to p (1: all); min_p keeps those at least min_p times as probable as the
    best; typical_p keeps those whose surprise is nearest to the expected one (1: all).
    repetition_penalty is Hugging Face's (prompt and answer, however often), presence_penalty and
    frequency_penalty OpenAI's (answer alone; the latter times the count). They look at the last
    `penalty_window` tokens, 0 for all.
    logit_bias is added to the scores of tokens; banned tokens never come.
    Raises UsageError `arguments.` and the name of the field.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_window: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    banned: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check("arguments.temperature", self.temperature, 0 <= self.temperature < math.inf, ">= 0")
        _check("arguments.top_k", self.top_k, self.top_k >= 0, "a count, 0 for all")
        _check("arguments.top_p", self.top_p, 0 < self.top_p <= 1, _SHARE)
        _check("arguments.min_p", self.min_p, 0 <= self.min_p <= 1, "0 to 1")
        _check("arguments.typical_p", self.typical_p, 0 < self.typical_p <= 1, _SHARE)
        factor = self.repetition_penalty
        good = 1 / LARGEST <= factor <= LARGEST
        _check("arguments.repetition_penalty", factor, good, "above 0 (1e-6 to 1e6), 1 for none")
        _check_amount("arguments.presence_penalty", self.presence_penalty)
        _check_amount("arguments.frequency_penalty", self.frequency_penalty)
        window = self.penalty_window
        _check("arguments.penalty_window", window, window >= 0, "a count of tokens, 0 for all")
        for token, bias in self.logit_bias:
            _check("arguments.logit_bias", token, token >= 0, "ids of tokens")
            _check_amount("arguments.logit_bias", bias)
        biased = [token for token, _ in self.logit_bias]
        _check("arguments.logit_bias", len(biased), len(set(biased)) == len(biased), _ONCE)
        for token in self.banned:
            _check("arguments.banned", token, token >= 0, "ids of tokens")
        _check("arguments.seed", self.seed, 0 <= self.seed <= MAX_SEED, "0 to 2^64 - 1")

    @property
    def greedy(self) -> bool:
        """No draw: the best score."""
        return self.temperature == 0

    def check_vocabulary(self, size: int) -> None:
        """Raises UsageError where a biased or banned token is beyond the `size` that the model has."""
        beyond = f"ids below {size}"
        for token, _ in self.logit_bias:
            _check("arguments.logit_bias", token, token < size, beyond)
        for token in self.banned:
            _check("arguments.banned", token, token < size, beyond)


_SHARE = "above 0 and at most 1"
_ONCE = "each token once"


def _check_amount(code: str, value: float) -> None:
    _check(code, value, -LARGEST <= value <= LARGEST, "-1e6 to 1e6")


def _check(code: str, value: float, good: bool, expected: str) -> None:
    if not good:
        name = code.partition(".")[2]
        raise UsageError(code, f"{name} is {value}", expected=expected)


GREEDY = Sampling(temperature=0.0)
