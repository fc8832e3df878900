"""Random numbers of a seed: PCG64's raw stream, and seeds of further completions."""

from __future__ import annotations

import numpy as np

BITS = 53


class Stream:
    """Whole numbers of [0, 2^53): the upper bits of the raw stream of PCG64, which numpy keeps stable."""

    def __init__(self, seed: int, draws: int = 0) -> None:
        self._seed, self.draws = seed, draws
        self._bits = np.random.PCG64(seed).advance(draws) if draws else np.random.PCG64(seed)

    def next(self) -> int:
        """The next number."""
        self.draws += 1
        return int(self._bits.random_raw()) >> (64 - BITS)

    def copy(self) -> Stream:
        """One that goes on with the same numbers."""
        return Stream(self._seed, self.draws)


def completion_seed(seed: int, index: int) -> int:
    """The seed of the completion `index` of several (n): the first has the seed itself.

    The others have number `index` of SplitMix64 (Steele, Lea, Flood 2014) started at the seed.
    """
    if index == 0:
        return seed
    mixed = (seed + index * 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)
