"""KV caches for tests: one layer's memory written by kv_write, its layout by numpy, attention over it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.evaluate_attention import attend
from hearth.compiler.ir.state import Stored
from hearth.compiler.ir.types import Static
from hearth.runtime import native
from hearth.schemas.commands import KVKind, KVScheme
from support.guard import guarded
from support.kernels import Matrix, call, rows_of

F32 = NDArray[np.float32]
STALE = 0x7E  # of what was never written: NaN as f16, huge as f32, 126 as a code
_DTYPES = {
    KVScheme.F32: np.float32,
    KVScheme.F16: np.float16,
    KVScheme.INT8: np.int8,
    KVScheme.INT8_STATIC: np.int8,
}
INT8 = (KVScheme.INT8, KVScheme.INT8_STATIC)
K_CODES, V_CODES = Static(float(np.float32(0.04)), 37), Static(float(np.float32(0.03)), -58)


def tables(positions: int, rotary: int) -> tuple[F32, F32]:
    """cos and sin f32[positions, rotary / 2]."""
    angles = np.outer(np.arange(positions), 100.0 ** -np.linspace(0, 1, rotary // 2))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@dataclass(frozen=True)
class Layer:
    """What fixes a layer's cache and its attention."""

    scheme: KVScheme
    heads: int
    kv_heads: int
    dim: int
    context: int
    window: int = 0
    rotary: int = 0  # 0: no tables
    causal: bool = True
    codes: tuple[Static, Static] = (K_CODES, V_CODES)  # of INT8_STATIC: those of K, of V
    cap: float = 0.0  # of scores; 0: none

    def static(self, kind: KVKind) -> Static | None:
        return self.codes[kind] if self.scheme is KVScheme.INT8_STATIC else None

    def floats(self, *kinds: KVKind) -> list[float]:
        """The scale and zero point of each half, where they are static."""
        found = [self.static(kind) for kind in kinds]
        return [number for each in found if each for number in (each.scale, each.zero)]

    @property
    def positions(self) -> int:
        """Sp."""
        return -(-self.context // 16) * 16

    def nbytes(self, kind: KVKind) -> int:
        values = self.kv_heads * self.context * self.dim * np.dtype(_DTYPES[self.scheme]).itemsize
        if self.scheme in INT8 and kind is KVKind.K:
            return self.kv_heads * self.positions * (-(-self.dim // 4) * 4)
        return values

    def tables(self) -> list[NDArray[Any] | None]:
        if not self.rotary:
            return [None, None]
        return [guarded(table) for table in tables(self.context, self.rotary)]

    def rotated(self, x: F32, position: int) -> F32:
        """x[T, H, D] as the kernels with tables take it."""
        if not self.rotary:
            return x
        cos, sin = tables(self.context, self.rotary)
        at = slice(position, position + len(x))
        return arithmetic.rope(x, cos[at, None], sin[at, None])


def kernel_for(op: str, scheme: KVScheme, isa: str) -> native.Kernel:
    """The table row."""
    (found,) = (k for k in rows_of(op) if k.variant == scheme and k.isa == isa)
    return found


@dataclass
class Cache:
    """The memory of K and V, unwritten parts stale, as one ISA's kernels see it."""

    layer: Layer
    isa: str
    codes: dict[KVKind, NDArray[np.uint8]] = field(init=False)
    scales: dict[KVKind, NDArray[np.uint8] | None] = field(init=False)

    def __post_init__(self) -> None:
        layer = self.layer
        self.codes = {
            kind: guarded(np.full(layer.nbytes(kind), STALE, np.uint8), 64) for kind in KVKind
        }
        per_kind = np.full(layer.kv_heads * layer.positions * 4, 0xFF, np.uint8)  # NaN
        int8 = layer.scheme is KVScheme.INT8
        self.scales = {kind: guarded(per_kind, 64) if int8 else None for kind in KVKind}

    def write(self, kind: KVKind, x: F32, position: int, threads: int = 1) -> None:
        """x[T, Hkv, D] at `position`."""
        layer = self.layer
        rotary = layer.rotary if kind is KVKind.K else 0
        cos_sin = layer.tables() if rotary else [None, None]
        call(
            kernel_for("kv_write", layer.scheme, self.isa),
            [
                Matrix.of(x.reshape(len(x), -1), 4),
                *cos_sin,
                self.codes[kind],
                self.scales[kind],
            ],
            [layer.kv_heads, layer.dim, rotary, layer.context, int(layer.scheme), int(kind)],
            layer.floats(kind),
            rows=len(x),
            position=position,
            threads=threads,
        )

    def stored(self, kind: KVKind, length: int) -> Stored:
        """The first positions read back by the layout of docs/layouts.md."""
        layer, dtype = self.layer, _DTYPES[self.layer.scheme]
        values = self.codes[kind].view(dtype)
        scales = self.scales[kind]
        if layer.scheme not in INT8:
            by_head = values.reshape(layer.kv_heads, layer.context, layer.dim)
            return Stored(by_head[:, :length].swapaxes(0, 1).astype(np.float32))
        if kind is KVKind.K:
            blocks = values.reshape(layer.kv_heads, layer.positions // 16, -1, 16, 4)
            by_head = blocks.transpose(0, 1, 3, 2, 4).reshape(layer.kv_heads, layer.positions, -1)
        else:
            by_head = values.reshape(layer.kv_heads, layer.context, layer.dim)
        codes = np.ascontiguousarray(by_head[:, :length, : layer.dim].swapaxes(0, 1))
        if scales is None:
            return Stored(codes, static=layer.static(kind))
        steps = scales.view(np.float32).reshape(layer.kv_heads, layer.positions)
        return Stored(codes, np.ascontiguousarray(steps[:, :length].T))

    def attention(self, q: F32, position: int, scale: float, threads: int = 1) -> F32:
        """y[T, H, D] of the kernel."""
        layer = self.layer
        y = Matrix.blank(len(q), layer.heads * layer.dim * 4, 12)
        call(
            kernel_for("attention_capped" if layer.cap else "attention", layer.scheme, self.isa),
            [
                Matrix.of(q.reshape(len(q), -1), 8),
                *layer.tables(),
                self.codes[KVKind.K],
                self.scales[KVKind.K],
                self.codes[KVKind.V],
                self.scales[KVKind.V],
                y,
            ],
            [
                *(layer.heads, layer.kv_heads, layer.dim, layer.rotary),
                *(layer.context, int(layer.scheme), layer.window, int(layer.causal)),
            ],
            [scale, *([layer.cap] if layer.cap else []), *layer.floats(*KVKind)],
            rows=len(q),
            position=position,
            threads=threads,
        )
        return y.values().reshape(q.shape)

    def expected(self, q: F32, position: int, scale: float) -> F32:
        """The numpy meaning over what the cache holds."""
        end = position + len(q)
        k, v = self.stored(KVKind.K, end), self.stored(KVKind.V, end)
        rotated = self.layer.rotated(q, position)
        layer = self.layer
        return attend(rotated, k, v, position, scale, layer.window, layer.causal, layer.cap)
