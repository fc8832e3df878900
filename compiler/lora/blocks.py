"""B of an adapter in the blocks of 16 channels in which a packed linear makes its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32
from hearth.compiler.lora.change import Change
from hearth.compiler.lora.peft import LoraModule
from hearth.compiler.lora.targets import Target
from hearth.compiler.lower.blocks import ALIGN, CHANNELS, Bytes, flat, halves, round_up
from hearth.compiler.quantize.rtn import rtn
from hearth.compiler.quantize.schemes import INT8
from hearth.schemas.errors import CheckpointError
from hearth.schemas.lora import AdapterWeights

HALF_MOST = 65504.0


@dataclass(frozen=True, eq=False)
class Slot:
    """A module's place in a packed linear: its rows of the weight, its ranks of A."""

    module: LoraModule
    start: int
    stop: int
    first: int

    @property
    def last(self) -> int:
        return self.first + len(self.module.a)


def blocks(slots: Sequence[Slot], target: Target, weights: AdapterWeights, where: str) -> Bytes:
    """i32[blocks][2] of (first rank, ranks), then of each block that has any its values [ranks][16] and scales."""
    coded = [_coded(slot, target.change, weights, where) for slot in slots]
    table, pieces = [], []
    for start, stop in _ranges(target.tensor.shape[0], target.tensor.paired):
        inside = [
            (slot, values, scale)
            for slot, (values, scale) in zip(slots, coded, strict=True)
            if slot.start < stop and start < slot.stop
        ]
        first = min((slot.first for slot, _, _ in inside), default=0)
        last = max((slot.last for slot, _, _ in inside), default=0)
        table.append((first, last - first))
        if not inside:
            continue
        block = np.zeros((last - first, CHANNELS), inside[0][1].dtype)
        scales = np.zeros(CHANNELS, np.float32)
        for slot, values, scale in inside:
            low, high = max(start, slot.start), min(stop, slot.stop)
            part = slice(low - slot.start, high - slot.start)
            at = slice(low - start, high - start)
            block[slot.first - first : slot.last - first, at] = values[part].T
            scales[at] = scale[part]
        pieces.append(flat(block))
        if weights is AdapterWeights.INT8:
            pieces.append(flat(scales))
    head = flat(np.asarray(table, "<i4"))
    padding = np.zeros(round_up(len(head), ALIGN) - len(head), np.uint8)
    return np.concatenate([head, padding, *pieces])


def _ranges(n: int, paired: bool) -> Iterator[tuple[int, int]]:
    """The rows of each block of 16 channels, in packed order."""
    parts = halves(n, paired)
    for low in range(0, parts[0][1] - parts[0][0], CHANNELS):
        for start, stop in parts:
            yield start + low, min(start + low + CHANNELS, stop)


def _coded(
    slot: Slot, change: Change, weights: AdapterWeights, where: str
) -> tuple[NDArray[np.generic], F32]:
    """B [N, r] as stored, scaling and what was done to rows in it; and scale f32[N] of int8."""
    b = np.asarray(slot.module.b * np.float32(slot.module.scaling), np.float32)
    b = change.of_b(b, slot.start)
    if weights is AdapterWeights.INT8:
        found = rtn(b, INT8, threads=1)
        return found.codes, found.scale
    kind = np.float16 if weights is AdapterWeights.F16 else np.float32
    return as_stored(b, weights, where).astype(kind), np.zeros(len(b), np.float32)


def as_stored(values: F32, weights: AdapterWeights, where: str) -> F32:
    """f32 of the floats that are stored."""
    if weights is AdapterWeights.F32:
        return values
    if not np.abs(values).max(initial=0.0) <= HALF_MOST:
        raise CheckpointError(
            "lora.range",
            f"a value of magnitude {float(np.abs(values).max()):.6g}",
            expected=f"at most {HALF_MOST:.0f} for f16",
            where=where,
            remedy="use --weights int8 or f32",
        )
    return values.astype(np.float16).astype(np.float32)
