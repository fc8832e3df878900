"""Random numbers of a seed: PCG64's raw stream, and seeds of further completions."""

from __future__ import annotations

import numpy as np

BITS = 53


def random_number(seed: int, index: int) -> int:
    """Number `index` of a seed: of [0, 2^53), the upper bits of PCG64's raw stream, which numpy keeps stable."""
    return int(np.random.PCG64(seed).advance(index).random_raw()) >> (64 - BITS)


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
