"""A linear whose checkpoint holds codes: GPTQ's and AWQ's packed words as a lazy GroupedSource, the codes kept.

GPTQ (Frantar et al. 2022, arXiv:2210.17323) as AutoGPTQ stores it: qweight i32[K * bits / 32, N], qzeros
i32[G, N * bits / 32], scales [G, N], g_idx i32[K]. AWQ (Lin et al. 2023, arXiv:2306.00978) in its gemm form: qweight
i32[K, N * bits / 32], qzeros and scales likewise. Either way w[n, k] = (code - zero) * scale of k's group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.coding import Coding
from hearth.compiler.frontend.safetensors import TensorSource, Words
from hearth.compiler.ir.tensors import F32, GroupedRows
from hearth.schemas.errors import CheckpointError

U32 = NDArray[np.uint32]
Codes = NDArray[np.uint8]
STORED_BITS = (2, 3, 4, 8)
SMALLEST_GROUP = 16
WORD = 32  # bits
ENDINGS = ("qweight", "qzeros", "scales", "g_idx")


@dataclass(frozen=True)
class Parts:
    """The tensors that one coded weight is stored as."""

    name: str
    words: Words
    zeros: Words
    scales: TensorSource
    group_of: Words | None = None


@dataclass
class Held:
    """Words and scales of the weight read last: rows are asked for in order, so one weight at a time is enough."""

    owner: CodedWeight | None = None
    words: U32 = field(default_factory=lambda: np.empty((0, 0), np.uint32))
    scales: F32 = field(default_factory=lambda: np.empty((0, 0), np.float32))
    zeros: Codes = field(default_factory=lambda: np.empty((0, 0), np.uint8))


@dataclass(frozen=True, eq=False)
class CodedWeight:
    """[N, K] with `stored_bits` per code; groups of `group` values of K share a scale and a zero point."""

    parts: Parts
    coding: Coding
    shape: tuple[int, ...]
    stored_bits: int
    group: int
    held: Held

    @property
    def bits(self) -> int:
        """Of the layout that holds the codes."""
        return 4 if self.stored_bits <= 4 else 8

    def grouped(self, start: int, stop: int) -> GroupedRows:
        stop = min(stop, self.shape[0])
        held = self._read()
        return GroupedRows(
            self._codes(held.words, start, stop),
            np.ascontiguousarray(held.scales[:, start:stop].T),
            np.ascontiguousarray(held.zeros[:, start:stop].T),
            self.group,
        )

    def _read(self) -> Held:
        held = self.held
        if held.owner is not self:
            held.owner, held.words = None, np.empty((0, 0), np.uint32)  # let the old ones go first
            held.words, held.scales = self.parts.words.read(), self._scales()
            zeros = self._unpacked(self.parts.zeros.read())
            offset = np.uint8(self.coding.zero_offset)
            held.zeros = (zeros + offset) & np.uint8((1 << self.stored_bits) - 1)
            held.owner = self
        return held

    def _scales(self) -> F32:
        return self.parts.scales.rows(0, self.parts.scales.shape[0])

    def _codes(self, words: U32, start: int, stop: int) -> Codes:
        """[stop - start, K]."""
        if self.coding.along_k:
            columns = np.ascontiguousarray(words[:, start:stop].T)
            return unpack(columns, self.stored_bits)
        per = WORD // self.stored_bits
        low, high = start // per, -(-stop // per)
        rows = self._unpacked(words[:, low:high])[:, start - low * per : stop - low * per]
        return np.ascontiguousarray(rows.T)

    def _unpacked(self, words: U32) -> Codes:
        """Values that lie along N, in their order."""
        values = unpack(np.ascontiguousarray(words), self.stored_bits)
        if not self.coding.order:
            return values
        count = len(self.coding.order)
        places = np.argsort(self.coding.order)  # where each channel of a word lies
        return values.reshape(len(values), -1, count)[..., places].reshape(values.shape)


def unpack(words: U32, bits: int) -> Codes:
    """[R, W] words -> [R, W * 32 / bits] values: one stream of bits, the low ones first."""
    rows, count = words.shape
    period = bits if WORD % bits else 1
    per = WORD * period // bits
    sets = words.reshape(rows, count // period, period)
    out = np.empty((rows, count // period, per), np.uint8)
    for place in range(per):
        word, shift = divmod(place * bits, WORD)
        value = sets[..., word] >> np.uint32(shift)
        if shift + bits > WORD:
            value = value | sets[..., word + 1] << np.uint32(WORD - shift)
        out[..., place] = value & np.uint32((1 << bits) - 1)
    return out.reshape(rows, -1)


def coded_weight(parts: Parts, coding: Coding, shape: tuple[int, int], held: Held) -> CodedWeight:
    """The weight of these tensors, whose shapes must fit [N, K] and each other; `checkpoint.coded_weight` if not.

    Bits and group size are those of the shapes, which may differ from one weight to the next.
    """
    bits = _bits(parts, coding, shape)
    group = _group(parts, coding, shape, bits)
    _check_order(parts, shape[1], group)
    columns = -(-shape[1] // SMALLEST_GROUP) * SMALLEST_GROUP
    return CodedWeight(parts, coding, shape, bits, min(group, columns), held)


def _bits(parts: Parts, coding: Coding, shape: tuple[int, int]) -> int:
    n, k = shape
    for bits in STORED_BITS:
        packed = (k * bits // WORD, n) if coding.along_k else (k, n * bits // WORD)
        whole = (k if coding.along_k else n) * bits % WORD == 0
        if whole and parts.words.shape == packed and not (coding.order and bits != 4):
            return bits
    raise _misfit(
        parts,
        f"qweight has shape {list(parts.words.shape)}",
        f"codes of {list(shape)} in {' or '.join(map(str, STORED_BITS))} bits",
    )


def _group(parts: Parts, coding: Coding, shape: tuple[int, int], bits: int) -> int:
    n, k = shape
    groups = parts.scales.shape[0]
    group = k if groups == 1 else -(-k // max(groups, 1))
    fits = parts.scales.shape == (groups, n) and -(-k // group) == groups
    if not fits or (groups > 1 and group % SMALLEST_GROUP):
        raise _misfit(
            parts,
            f"scales have shape {list(parts.scales.shape)}",
            f"[groups, {n}], groups of a multiple of {SMALLEST_GROUP} of {k} values",
        )
    if n * bits % WORD or parts.zeros.shape != (groups, n * bits // WORD):
        found = f"qzeros have shape {list(parts.zeros.shape)}"
        raise _misfit(parts, found, f"{[groups, n * bits // WORD]} words")
    return group


def _check_order(parts: Parts, k: int, group: int) -> None:
    """Groups that are not consecutive (act-order) would need the inputs in another order at every call."""
    if parts.group_of is None:
        return
    if parts.group_of.shape != (k,):
        raise _misfit(parts, f"g_idx has shape {list(parts.group_of.shape)}", f"[{k}]")
    if not np.array_equal(parts.group_of.read(), np.arange(k) // group):
        raise CheckpointError(
            "checkpoint.group_order",
            f"the groups of {parts.name!r} are not consecutive (desc_act)",
            expected=f"groups of {group} neighbours",
            where=str(parts.words.shard.path),
            remedy="take a version made with desc_act = false, or compile the model it was made of",
        )


def _misfit(parts: Parts, found: str, expected: str) -> CheckpointError:
    return CheckpointError(
        "checkpoint.coded_weight",
        f"{parts.name!r}: {found}",
        expected=expected,
        where=str(parts.words.shard.path),
        remedy="the checkpoint is damaged, or packed in a way that is not known",
    )


def is_coded(name: str, stored: Mapping[str, str]) -> bool:
    """Whether the weight of a canonical name is there as codes."""
    return f"{prefix_of(name)}.qweight" in stored and name not in stored


def prefix_of(name: str) -> str:
    """What the names of a coded weight's tensors begin with."""
    return name.removesuffix(".weight")
