"""Rows of a weight in packed order: batches of 16-channel blocks, gate and up alternating where paired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import QuantisedRows

CHANNELS = 16
ALIGN = 64
BATCH_NBYTES = 8 << 20  # of f32 rows read at once: bounds the memory of packing

Bytes = NDArray[np.uint8]
Rows = TypeVar("Rows", bound=np.generic)


def round_up(value: int, to: int) -> int:
    """The smallest multiple of `to` that is at least `value`."""
    return -(-value // to) * to


def block_count(n: int, paired: bool) -> int:
    """16-channel blocks of n channels; each half of a paired weight is padded on its own."""
    return 2 * -(-n // 2 // CHANNELS) if paired else -(-n // CHANNELS)


def halves(n: int, paired: bool) -> tuple[tuple[int, int], ...]:
    """Row ranges whose blocks alternate."""
    return ((0, n // 2), (n // 2, n)) if paired else ((0, n),)


def batch_blocks(k: int, parts: int) -> int:
    """Blocks per part that are read at once."""
    return max(1, BATCH_NBYTES // (4 * CHANNELS * max(k, 1) * parts))


def batches(n: int, k: int, paired: bool) -> Iterator[tuple[tuple[int, int], ...]]:
    """Row ranges to read together, one per half; all cover the same number of blocks."""
    parts = halves(n, paired)
    rows = parts[0][1] - parts[0][0]
    step = batch_blocks(k, len(parts)) * CHANNELS
    for low in range(0, rows, step):
        high = min(low + step, rows)
        yield tuple((start + low, start + high) for start, _ in parts)


def interleave(parts: list[NDArray[Rows]]) -> NDArray[Rows]:
    """[rows, ...] per half -> [blocks, 16, ...], missing channels zero, the halves' blocks alternating."""
    blocks = -(-parts[0].shape[0] // CHANNELS)
    if len(parts) == 1 and parts[0].shape[0] == blocks * CHANNELS:
        return parts[0].reshape(blocks, CHANNELS, *parts[0].shape[1:])
    out = np.zeros((blocks, len(parts), CHANNELS, *parts[0].shape[1:]), parts[0].dtype)
    for index, part in enumerate(parts):
        whole = part.shape[0] // CHANNELS
        full, rest = part[: whole * CHANNELS], part[whole * CHANNELS :]
        out[:whole, index] = full.reshape(whole, CHANNELS, *part.shape[1:])
        if rest.shape[0]:
            out[whole, index, : rest.shape[0]] = rest
    return out.reshape(blocks * len(parts), CHANNELS, *parts[0].shape[1:])


def flat(array: NDArray[np.generic]) -> Bytes:
    """The bytes of an array in its order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def fours(codes: NDArray[np.int8], columns: int) -> NDArray[np.uint32]:
    """[B, 16, K] codes, zero-padded to `columns`, as words of four K-values."""
    if codes.shape[2] != columns:
        padded = np.zeros((*codes.shape[:2], columns), np.int8)
        padded[:, :, : codes.shape[2]] = codes
        codes = padded
    return np.ascontiguousarray(codes).view(np.uint32)


def multipliers_of(rows: QuantisedRows) -> NDArray[np.int8]:
    """i8[N, groups] of a weight that has them."""
    if rows.multipliers is None:
        raise TypeError("a weight in groups has a multiplier for each")
    return rows.multipliers
