"""Token ids cut into windows of one length, each read by a cache of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.errors import InputError

Ids = NDArray[np.int32]


def windows(ids: Sequence[int] | NDArray[np.integer], length: int, most: int | None) -> list[Ids]:
    """The first `most` (None: all) whole windows i32[length], one after the other, none overlapping.

    Raises InputError `input.too_short` where there is not one, or where a window has nothing to score.
    """
    array = np.asarray(ids, np.int32)
    count = array.size // length
    if count < 1 or length < 2:
        raise InputError(
            "input.too_short",
            f"{array.size} tokens for windows of {length}",
            expected="at least one whole window of 2 tokens or more",
            remedy="give a longer text, or a smaller --context",
        )
    count = count if most is None else min(count, most)
    return [array[length * index : length * (index + 1)] for index in range(count)]
