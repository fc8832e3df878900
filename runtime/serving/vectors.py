"""What both surfaces do with vectors: rows of length 1, and their first columns (`dimensions`)."""

from __future__ import annotations

import numpy as np

from hearth.runtime.encoder import F32


def shortened(rows: F32, columns: int | None) -> F32:
    """The first columns at length 1, as some models are trained to be used; None or all of them: the rows as they are.

    Kusupati et al. 2022, arXiv:2205.13147 (Matryoshka representations).
    """
    return rows if columns in (None, rows.shape[1]) else normalised(rows[:, :columns])


def normalised(rows: F32) -> F32:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    lengths[lengths == 0] = 1
    scaled: F32 = rows / lengths
    return scaled
