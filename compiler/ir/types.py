"""Types of the IR: element type, shape with symbolic dims, and the KV cache of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.dtypes import DType


class Dim(StrEnum):
    """Dims known only at run time: T tokens of a call, R rows of logits asked for."""

    T = "T"
    R = "R"


@dataclass(frozen=True)
class TensorType:
    """dtype[shape]; a scalar has shape ()."""

    dtype: DType
    shape: tuple[int | Dim, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(dim) for dim in self.shape)}]"


LEAST_STEP, MOST_STEP = 2.0**-100, 2.0**125  # so that 1 / scale is a normal number too
MOST_CODE = 127


@dataclass(frozen=True)
class Static:
    """Fixed int8 codes of a tensor, clamp(rint(x / scale) + zero, -127, 127): docs/arithmetic.md, quantize_static.

    `scale` is a float32 in 2^-100 .. 2^125, `zero` a code in -127..127 (that of 0.0). ValueError otherwise.
    """

    scale: float
    zero: int = 0

    def __post_init__(self) -> None:
        if not LEAST_STEP <= self.scale <= MOST_STEP or float(np.float32(self.scale)) != self.scale:
            raise ValueError(f"scale {self.scale!r} is no float32 in 2^-100 .. 2^125")
        if not -MOST_CODE <= self.zero <= MOST_CODE:
            raise ValueError(f"zero {self.zero} is not in -127..127")

    @property
    def inverse(self) -> np.float32:
        """1 / scale, rounded once."""
        return np.float32(1) / np.float32(self.scale)

    def __str__(self) -> str:
        return f"{self.scale:.9g} * (code - {self.zero})"


@dataclass(frozen=True)
class CacheType:
    """One layer's K or V cache: S positions x Hkv heads x D, stored by `scheme`; `static` with INT8_STATIC alone."""

    layer: int
    kind: KVKind
    heads: int
    head_dim: int
    context: int
    scheme: KVScheme
    static: Static | None = None

    @property
    def fixed(self) -> Static:
        """The codes of INT8_STATIC; ValueError where calibration has not given them."""
        if self.static is None:
            raise ValueError(f"{self} has no static codes")
        return self.static

    def __str__(self) -> str:
        coding = "" if self.static is None else f", {self.static}"
        return (
            f"kv.{self.layer}.{self.kind.name.lower()}:"
            f"{self.scheme.name.lower()}[{self.heads}, {self.context}, {self.head_dim}]{coding}"
        )


Type = TensorType | CacheType
