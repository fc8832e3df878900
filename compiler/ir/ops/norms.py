"""Norms of rows, with gains and int8 codes where they are fused."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.ir.ops.base import Op, matrix, need, tensor
from hearth.compiler.ir.types import Static, TensorType, Type
from hearth.schemas.dtypes import DType


@dataclass(frozen=True, eq=False)
class RMSNorm(Op):
    """y[M, E] = x * rsqrt(mean(x^2) + eps) (* gain[E]); Zhang & Sennrich 2019, arXiv:1910.07467."""

    x: Op
    gain: Op | None
    eps: float

    def infer(self) -> Type:
        need(self.gain is None or tensor(self.gain).shape == tensor(self.x).shape[1:], self, "gain")
        return TensorType(DType.F32, matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class HeadNorm(Op):
    """y[M, H * D] = rms_norm of each head x[m, h * D : (h + 1) * D] by itself (* gain[D]).

    Of queries and keys before they are rotated; Henry et al. 2020, arXiv:2010.04245, as Qwen3 has it.
    """

    x: Op
    gain: Op | None
    eps: float
    heads: int

    def infer(self) -> Type:
        rows, columns = matrix(self, self.x)
        need(columns % self.heads == 0, self, f"{columns} columns for {self.heads} heads")
        dim = columns // self.heads
        need(self.gain is None or tensor(self.gain).shape == (dim,), self, f"gain must be [{dim}]")
        return TensorType(DType.F32, (rows, columns))


@dataclass(frozen=True, eq=False)
class RMSNormQuantize(Op):
    """quantize(rms_norm(x, gain)): q8[M, E]."""

    x: Op
    gain: Op | None
    eps: float
    static: Static | None = None

    def infer(self) -> Type:
        return TensorType(DType.Q8, matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class LayerNorm(Op):
    """y[M, E] = (x - mean(x)) * rsqrt(var(x) + eps) (* gain[E]) (+ bias[E]); Ba et al. 2016, arXiv:1607.06450."""

    x: Op
    gain: Op | None
    bias: Op | None
    eps: float

    def infer(self) -> Type:
        for vector in (self.gain, self.bias):
            fits = vector is None or tensor(vector).shape == tensor(self.x).shape[1:]
            need(fits, self, "gain and bias must be [E]")
        return TensorType(DType.F32, matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class LayerNormQuantize(Op):
    """quantize(layer_norm(x, gain, bias)): q8[M, E]."""

    x: Op
    gain: Op | None
    bias: Op | None
    eps: float
    static: Static | None = None

    def infer(self) -> Type:
        return TensorType(DType.Q8, matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class L2Normalize(Op):
    """y[M, N] = x / max(sqrt(sum(x^2)), eps), row by row."""

    x: Op
    eps: float

    def infer(self) -> Type:
        return TensorType(DType.F32, matrix(self, self.x))
