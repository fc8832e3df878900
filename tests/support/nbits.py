"""Weights of 4 and 8 bits in blocks, as MatMulNBits stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.contrib import Writer


@dataclass(frozen=True)
class Form:
    """How a weight [N, K] is stored."""

    bits: int = 4
    block: int = 16
    zeros: str = "none"  # packed, floats
    flat: bool = False  # scales in one axis
    half: bool = False


def packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Two codes of 4 bits to a byte along the last axis, the first in the low half."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return codes[..., ::2] | codes[..., 1::2] << 4


@dataclass(frozen=True)
class Weight:
    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8]

    @classmethod
    def draw(cls, form: Form, n: int, k: int, seed: int = 0) -> Weight:
        rng = np.random.default_rng(seed)
        groups, top = -(-k // form.block), 1 << form.bits
        codes = rng.integers(0, top, (n, k), np.uint8)
        scales = (rng.uniform(0.5, 1.5, (n, groups)) / top / k**0.5).astype(np.float32)
        middle = np.full((n, groups), top // 2, np.uint8)
        zeros = middle if form.zeros == "none" else rng.integers(0, top, (n, groups), np.uint8)
        return cls(codes, scales, zeros)

    def put(self, w: Writer, form: Form) -> list[str]:
        """The names of codes, scales and zero points."""
        n, k = self.codes.shape
        groups = self.scales.shape[1]
        padded = np.zeros((n, groups * form.block), np.uint8)
        padded[:, :k] = self.codes
        blob = packed(padded.reshape(n, groups, form.block), form.bits)
        names = [w.tensor(blob, "codes")]
        names.append(w.tensor(self.scales.reshape(-1) if form.flat else self.scales, "scales"))
        if form.zeros == "packed":
            zeros = packed(self.zeros, form.bits)
            names.append(w.tensor(zeros.reshape(-1) if form.flat else zeros, "zeros"))
        if form.zeros == "floats":
            names.append(w.tensor(self.zeros.astype(np.float32), "zeros"))
        return names


def product(w: Writer, x: str, weight: Weight, form: Form, *more: str, **attributes: Any) -> str:
    n, k = weight.codes.shape
    return w.fused(
        "MatMulNBits", x, *weight.put(w, form), *more,
        N=n, K=k, bits=form.bits, block_size=form.block, **attributes,
    )  # fmt: skip
