"""Ops that read weights of whole matrices: embeddings, linears, rotations, and the codes linears read."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.ir.ops.base import IRError, Op, matrix, need, tensor
from hearth.compiler.ir.ops.sources import INTEGERS, WEIGHTS
from hearth.compiler.ir.types import Dim, Static, TensorType, Type
from hearth.schemas.commands import Activation
from hearth.schemas.dtypes import DType


@dataclass(frozen=True, eq=False)
class Embedding(Op):
    """y[T, E] = table[tokens[T]], table[V, E]."""

    table: Op
    tokens: Op

    def infer(self) -> Type:
        _, columns = matrix(self, self.table, WEIGHTS)
        return TensorType(DType.F32, (tensor(self.tokens).shape[0], columns))


@dataclass(frozen=True, eq=False)
class PositionEmbedding(Op):
    """y[rows, E] = table[position + t], table[S, E]: learned positions."""

    table: Op
    position: Op
    rows: int | Dim = Dim.T

    def infer(self) -> Type:
        _, columns = matrix(self, self.table, WEIGHTS)
        return TensorType(DType.F32, (self.rows, columns))


@dataclass(frozen=True, eq=False)
class Quantize(Op):
    """Int8 codes per row: q8[M, K]; dynamic, with one scale per row, or static, with one for all.

    A linear sums static codes as they are: its bias makes up for their zero point.
    """

    x: Op
    static: Static | None = None

    def infer(self) -> Type:
        return TensorType(DType.Q8, matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """y[M, N] = activation(x[M, K] @ w[N, K]^T + bias[N]) + residual[M, N].

    Gated activations: the rows of w are [gate; up], y[M, N / 2] = f(gate) * up.
    """

    x: Op
    weight: Op
    bias: Op | None = None
    residual: Op | None = None
    activation: Activation = Activation.NONE

    def infer(self) -> Type:
        rows, k = matrix(self, self.x, (DType.F32, DType.Q8))
        kind = tensor(self.weight)
        need(kind.dtype in WEIGHTS and kind.shape[1:] == (k,), self, f"weight must be [N, {k}]")
        quantised = tensor(self.x).dtype is DType.Q8
        need(
            not quantised or kind.dtype in INTEGERS, self, "q8 rows need a weight of integer scales"
        )
        n = kind.shape[0]
        if not isinstance(n, int):
            raise IRError(f"Linear: rows of the weight {kind} must be known")
        need(self.bias is None or tensor(self.bias).shape == (n,), self, "bias must be [N]")
        gated = self.activation.gate is not None
        columns = n // 2 if gated else n
        need(columns * 2 == n or not gated, self, "odd gate/up rows")
        same = self.residual is None or tensor(self.residual).shape == (rows, columns)
        need(same, self, "residual must have the shape of the result")
        return TensorType(DType.F32, (rows, columns))


@dataclass(frozen=True, eq=False)
class Hadamard(Op):
    """y[M, K] = x @ H / sqrt(q * r * s) in blocks of q * r * s columns, H = Q x R x Sylvester(s) (Kronecker).

    signs f32[q * q + r * r], each factor transposed (row j makes column j), without those of order 1.
    """

    x: Op
    signs: Op | None
    q: int = 1
    r: int = 1
    s: int = 1

    def infer(self) -> Type:
        rows, columns = matrix(self, self.x)
        order, count = self.q * self.r * self.s, sum(n * n for n in (self.q, self.r) if n > 1)
        need(columns % order == 0 and self.s & (self.s - 1) == 0, self, f"{columns} columns")
        given = 0 if self.signs is None else tensor(self.signs).shape[0]
        need(given == count, self, f"{count} signs")
        return TensorType(DType.F32, (rows, columns))
