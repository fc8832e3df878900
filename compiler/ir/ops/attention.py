"""Attention over KV caches, their writes, and the rotation by position."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.ir.ops.base import IRError, Op, matrix, need, tensor
from hearth.compiler.ir.types import CacheType, TensorType, Type
from hearth.schemas.dtypes import DType


def _check_tables(op: Op, cos: Op | None, sin: Op | None, head_dim: int) -> None:
    need((cos is None) == (sin is None), op, "cos and sin come together")
    if cos is not None and sin is not None:
        shape = tensor(cos).shape
        need(shape == tensor(sin).shape and len(shape) == 2, op, "tables must be [S, rotary / 2]")
        half = shape[1]
        need(isinstance(half, int) and 2 * half <= head_dim, op, "rotary dims exceed the head")


@dataclass(frozen=True, eq=False)
class RoPE(Op):
    """x[T, H * D] rotated by position, half-split form; Su et al. 2021, arXiv:2104.09864."""

    x: Op
    cos: Op
    sin: Op
    position: Op
    heads: int

    def infer(self) -> Type:
        rows, columns = matrix(self, self.x)
        need(columns % self.heads == 0, self, f"{columns} columns for {self.heads} heads")
        _check_tables(self, self.cos, self.sin, columns // self.heads)
        return TensorType(DType.F32, (rows, columns))


@dataclass(frozen=True, eq=False)
class KVWrite(Op):
    """The cache after x[T, Hkv * D] (rotated, where tables are given) was stored at position...position + T."""

    cache: Op
    x: Op
    position: Op
    cos: Op | None = None
    sin: Op | None = None

    def infer(self) -> Type:
        kind = self.cache.type
        if not isinstance(kind, CacheType):
            raise IRError(f"KVWrite: {kind} is no cache")
        _, columns = matrix(self, self.x)
        need(columns == kind.heads * kind.head_dim, self, f"{columns} columns for {kind}")
        _check_tables(self, self.cos, self.sin, kind.head_dim)
        return kind


@dataclass(frozen=True, eq=False)
class Attention(Op):
    """y[T, H * D]: attention of q (rotated, where tables are given) over the caches.

    Causal: row i sees positions position + i - window + 1 .. position + i (window 0: from the start). Else every
    row sees 0 .. position + T - 1. Scores are scaled by `scale`, then capped as by SoftCap, where `cap` is not 0; query
    head h reads KV head h // (H / Hkv).
    """

    q: Op
    k: Op
    v: Op
    position: Op
    heads: int
    scale: float
    window: int = 0
    cos: Op | None = None
    sin: Op | None = None
    causal: bool = True
    cap: float = 0.0

    def infer(self) -> Type:
        rows, columns = matrix(self, self.q)
        need(self.causal or not self.window, self, "a window needs causal attention")
        k, v = self.k.type, self.v.type
        if not isinstance(k, CacheType) or not isinstance(v, CacheType):
            raise IRError(f"Attention: k and v must be caches, found {k} and {v}")
        need(self.heads % k.heads == 0, self, f"{self.heads} heads over {k.heads} KV heads")
        need(columns == self.heads * k.head_dim, self, f"{columns} columns, {self.heads} heads")
        _check_tables(self, self.cos, self.sin, k.head_dim)
        return TensorType(DType.F32, (rows, self.heads * v.head_dim))
