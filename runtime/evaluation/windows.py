"""Token ids cut into windows of one length, each read by a cache of its own, and which of their tokens are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.errors import InputError

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Window:
    """Ids i32[S], read from an empty cache; the last `scored` of them count, the others come before these."""

    ids: Ids
    scored: int


def windows(
    ids: Sequence[int] | NDArray[np.integer],
    length: int,
    most: int | None,
    stride: int | None = None,
) -> list[Window]:
    """The first `most` (None: all) whole windows of `length` ids, each `stride` ids after the one before it.

    With `stride` None or `length` no two windows overlap, and every id of a window but its first is scored. With
    less, windows after the first score their last `stride` ids only: each id once, and none of them after fewer than
    length - stride others ("perplexity of fixed-length models" of transformers). Raises InputError `input.too_short`
    where there is not one window, or where a window has nothing to score.
    """
    array, step = np.asarray(ids, np.int32), stride or length
    count = 1 + (array.size - length) // step if array.size >= length else 0
    if count < 1 or length < 2:
        raise InputError(
            "input.too_short",
            f"{array.size} tokens for windows of {length}",
            expected="at least one whole window of 2 tokens or more",
            remedy="give a longer text, or a smaller --context",
        )
    count = count if most is None else min(count, most)
    return [
        Window(array[start : start + length], min(step, length - 1) if start else length - 1)
        for start in range(0, step * count, step)
    ]
