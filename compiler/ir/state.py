"""What lives between two calls: the position and each layer's keys and values as stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.types import CacheType, Static
from hearth.schemas.commands import KVKind, KVScheme

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stored:
    """P positions of one cache: f32[P, Hkv, D] (f16 rounded), or int8 codes with scales [P, Hkv] or a Static."""

    values: NDArray[np.float32] | NDArray[np.int8]
    scales: F32 | None = None
    static: Static | None = None

    @classmethod
    def empty(cls, kind: CacheType) -> Self:
        """A cache of no positions."""
        shape = (0, kind.heads, kind.head_dim)
        return cls.of(np.zeros(shape, np.float32), kind.scheme, kind.static)

    @classmethod
    def of(cls, rows: F32, scheme: KVScheme, static: Static | None = None) -> Self:
        """What the scheme keeps of rows[T, Hkv, D]."""
        match scheme:
            case KVScheme.INT8:
                return cls(*arithmetic.quantize(rows))
            case KVScheme.INT8_STATIC:
                if static is None:
                    raise ValueError("static codes without their scale")
                return cls(arithmetic.quantize_static(rows, static), static=static)
            case KVScheme.F16:
                return cls(arithmetic.round_f16(rows))
            case KVScheme.F32:
                return cls(rows)

    @property
    def length(self) -> int:
        return int(self.values.shape[0])

    def keep(self, positions: int) -> Stored:
        """The first positions only."""
        scales = None if self.scales is None else self.scales[:positions]
        return Stored(self.values[:positions], scales, self.static)

    def append(self, more: Stored) -> Stored:
        """These positions, then those of `more`."""
        scales = None
        if self.scales is not None and more.scales is not None:
            scales = np.concatenate([self.scales, more.scales])
        return Stored(np.concatenate([self.values, more.values]), scales, self.static)

    def dequantised(self) -> F32:
        """f32[P, Hkv, D]."""
        if self.static is not None:
            return arithmetic.dequantise_static(np.asarray(self.values, np.int8), self.static)
        if self.scales is None:
            return np.asarray(self.values, np.float32)
        return arithmetic.dequantise(np.asarray(self.values, np.int8), self.scales)


@dataclass(frozen=True, eq=False)
class State:
    """An immutable value: evaluating gives a new one, so an old one is a saved context."""

    position: int = 0
    caches: Mapping[tuple[int, KVKind], Stored] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Self:
        """The state before the first token."""
        return cls()

    def rewind(self, position: int) -> State:
        """The state after the first `position` tokens."""
        if not 0 <= position <= self.position:
            raise ValueError(f"rewind to {position} from {self.position}")
        kept = {key: stored.keep(position) for key, stored in self.caches.items()}
        return State(position, kept)

    def cache(self, kind: CacheType) -> Stored:
        """The cache of one layer; empty before its first write."""
        return self.caches.get((kind.layer, kind.kind)) or Stored.empty(kind)
