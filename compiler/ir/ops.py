"""The ops: frozen dataclasses; an op is the tensor it makes, compared by identity, its type computed and checked.

All activations are matrices [rows, columns]; heads lie side by side in the columns ([T, H * D]), so no
reshape exists. The numpy meaning of each op is in meanings.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Self

from hearth.compiler.ir.tensors import GroupedSource, QuantisedSource, Source
from hearth.compiler.ir.types import CacheType, Dim, Static, TensorType, Type
from hearth.schemas.commands import Activation, Pooling
from hearth.schemas.dtypes import DType


class IRError(Exception):
    """An op was built from operands that do not fit: a bug in a frontend or pass, never a user error."""


@dataclass(frozen=True, eq=False)
class Op:
    """Base: operands are the fields that are ops, in field order."""

    def __post_init__(self) -> None:
        _ = self.type  # raises IRError on misuse

    @cached_property
    def operands(self) -> tuple[Op, ...]:
        """The ops this op reads; optional ones that are None are left out."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if isinstance(value, Op))

    @cached_property
    def type(self) -> Type:
        return self.infer()

    def infer(self) -> Type:
        """The type of the result; raises IRError where the operands do not fit."""
        raise NotImplementedError

    def with_operands(self, operands: tuple[Op, ...]) -> Self:
        """The same op over other operands (same count, same order); itself when nothing differs."""
        if all(new is old for new, old in zip(operands, self.operands, strict=True)):
            return self
        left = iter(operands)
        changes = {
            field.name: next(left)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Op)
        }
        return replace(self, **changes)


def tensor(op: Op) -> TensorType:
    """The type of an op that must be a tensor."""
    if not isinstance(op.type, TensorType):
        raise IRError(f"{type(op).__name__} gives {op.type}, expected a tensor")
    return op.type


def _need(condition: bool, op: Op, what: str) -> None:
    if not condition:
        shapes = ", ".join(str(operand.type) for operand in op.operands)
        raise IRError(f"{type(op).__name__}({shapes}): {what}")


def _matrix(op: Op, operand: Op, dtypes: tuple[DType, ...] = (DType.F32,)) -> tuple[int | Dim, int]:
    kind = tensor(operand)
    _need(kind.dtype in dtypes and len(kind.shape) == 2, op, f"expected a matrix of {dtypes}")
    columns = kind.shape[1]
    if not isinstance(columns, int):
        raise IRError(f"{type(op).__name__}: columns of {kind} must be known")
    return kind.shape[0], columns


@dataclass(frozen=True, eq=False)
class Tokens(Op):
    """Ids i32[rows] of this call, from the port of that name; rows is T, or 1 in decode."""

    rows: int | Dim = Dim.T
    port: str = "tokens"

    def infer(self) -> Type:
        return TensorType(DType.I32, (self.rows,))


@dataclass(frozen=True, eq=False)
class Input(Op):
    """A matrix f32[rows, columns] from the port of that name (a native part of a general graph)."""

    port: str
    columns: int
    rows: int | Dim = Dim.T

    def infer(self) -> Type:
        return TensorType(DType.F32, (self.rows, self.columns))


@dataclass(frozen=True, eq=False)
class Position(Op):
    """Absolute position i32[] of the first token of this call."""

    def infer(self) -> Type:
        return TensorType(DType.I32, ())


TABLES: Mapping[int, DType] = {
    2: DType.T2,
    3: DType.T3,
    4: DType.T4,
    5: DType.T5,
    6: DType.T6,
}


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """A named weight, table or gain; lazy."""

    name: str
    value: Source | QuantisedSource | GroupedSource

    def infer(self) -> Type:
        match self.value:
            case QuantisedSource(bits=bits, tabled=True):
                return TensorType(TABLES[bits], self.value.shape)
            case QuantisedSource(bits=bits):
                return TensorType(DType.W4 if bits == 4 else DType.W8, self.value.shape)
            case GroupedSource(bits=bits):
                return TensorType(DType.G4 if bits == 4 else DType.G8, self.value.shape)
            case Source(stored=stored):
                return TensorType(DType(stored), self.value.shape)


FLOATS = (DType.F32, DType.F16, DType.BF16)
GROUPED = (DType.G8, DType.G4)  # multiplied in f32 only
INTEGERS = (DType.W8, DType.W4, *TABLES.values())  # multiplied in int8 too
WEIGHTS = (*FLOATS, *INTEGERS, *GROUPED)


@dataclass(frozen=True, eq=False)
class Cache(Op):
    """The KV cache of one layer as the call finds it."""

    cache: CacheType

    def infer(self) -> Type:
        return self.cache


@dataclass(frozen=True, eq=False)
class Embedding(Op):
    """y[T, E] = table[tokens[T]], table[V, E]."""

    table: Op
    tokens: Op

    def infer(self) -> Type:
        _, columns = _matrix(self, self.table, WEIGHTS)
        return TensorType(DType.F32, (tensor(self.tokens).shape[0], columns))


@dataclass(frozen=True, eq=False)
class PositionEmbedding(Op):
    """y[rows, E] = table[position + t], table[S, E]: learned positions."""

    table: Op
    position: Op
    rows: int | Dim = Dim.T

    def infer(self) -> Type:
        _, columns = _matrix(self, self.table, WEIGHTS)
        return TensorType(DType.F32, (self.rows, columns))


@dataclass(frozen=True, eq=False)
class RMSNorm(Op):
    """y[M, E] = x * rsqrt(mean(x^2) + eps) (* gain[E]); Zhang & Sennrich 2019, arXiv:1910.07467."""

    x: Op
    gain: Op | None
    eps: float

    def infer(self) -> Type:
        _need(
            self.gain is None or tensor(self.gain).shape == tensor(self.x).shape[1:], self, "gain"
        )
        return TensorType(DType.F32, _matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class RMSNormQuantize(Op):
    """quantize(rms_norm(x, gain)): q8[M, E]."""

    x: Op
    gain: Op | None
    eps: float
    static: Static | None = None

    def infer(self) -> Type:
        return TensorType(DType.Q8, _matrix(self, self.x))


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
            _need(fits, self, "gain and bias must be [E]")
        return TensorType(DType.F32, _matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class LayerNormQuantize(Op):
    """quantize(layer_norm(x, gain, bias)): q8[M, E]."""

    x: Op
    gain: Op | None
    bias: Op | None
    eps: float
    static: Static | None = None

    def infer(self) -> Type:
        return TensorType(DType.Q8, _matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class Quantize(Op):
    """Int8 codes per row: q8[M, K]; dynamic, with one scale per row, or static, with one for all.

    A linear sums static codes as they are: its bias makes up for their zero point.
    """

    x: Op
    static: Static | None = None

    def infer(self) -> Type:
        return TensorType(DType.Q8, _matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """y[M, N] = activation(x[M, K] @ w[N, K]^T + bias[N]) + residual[M, N].

    SWIGLU: the rows of w are [gate; up], y[M, N / 2] = silu(gate) * up.
    """

    x: Op
    weight: Op
    bias: Op | None = None
    residual: Op | None = None
    activation: Activation = Activation.NONE

    def infer(self) -> Type:
        rows, k = _matrix(self, self.x, (DType.F32, DType.Q8))
        kind = tensor(self.weight)
        _need(kind.dtype in WEIGHTS and kind.shape[1:] == (k,), self, f"weight must be [N, {k}]")
        quantised = tensor(self.x).dtype is DType.Q8
        _need(
            not quantised or kind.dtype in INTEGERS, self, "q8 rows need a weight of integer scales"
        )
        n = kind.shape[0]
        if not isinstance(n, int):
            raise IRError(f"Linear: rows of the weight {kind} must be known")
        _need(self.bias is None or tensor(self.bias).shape == (n,), self, "bias must be [N]")
        columns = n // 2 if self.activation is Activation.SWIGLU else n
        _need(
            columns * 2 == n or self.activation is not Activation.SWIGLU, self, "odd gate/up rows"
        )
        same = self.residual is None or tensor(self.residual).shape == (rows, columns)
        _need(same, self, "residual must have the shape of the result")
        return TensorType(DType.F32, (rows, columns))


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """Two matrices of one shape; base of Add, Mul and SwiGLU."""

    def infer(self) -> Type:
        left, right = (_matrix(self, operand) for operand in self.operands)
        _need(left == right, self, "shapes must be equal")
        return TensorType(DType.F32, left)


@dataclass(frozen=True, eq=False)
class Add(Elementwise):
    """y = a + b; b may be a bias vector [N]."""

    a: Op
    b: Op

    def infer(self) -> Type:
        if len(tensor(self.b).shape) == 1:
            rows, columns = _matrix(self, self.a)
            _need(tensor(self.b).shape == (columns,), self, "bias must have the columns of a")
            return TensorType(DType.F32, (rows, columns))
        return super().infer()


@dataclass(frozen=True, eq=False)
class Mul(Elementwise):
    """y = a * b."""

    a: Op
    b: Op


@dataclass(frozen=True, eq=False)
class SwiGLU(Elementwise):
    """y = silu(gate) * up; Shazeer 2020, arXiv:2002.05202."""

    gate: Op
    up: Op


@dataclass(frozen=True, eq=False)
class Activate(Op):
    """y = f(x) elementwise, f neither NONE nor SWIGLU."""

    x: Op
    activation: Activation

    def infer(self) -> Type:
        known = self.activation not in (Activation.NONE, Activation.SWIGLU)
        _need(known, self, f"{self.activation.name} is no function of one matrix")
        return TensorType(DType.F32, _matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class Slice(Op):
    """y = x[:, start:stop], a view."""

    x: Op
    start: int
    stop: int

    def infer(self) -> Type:
        rows, columns = _matrix(self, self.x)
        _need(0 <= self.start < self.stop <= columns, self, f"{self.start}:{self.stop}")
        return TensorType(DType.F32, (rows, self.stop - self.start))


def _check_tables(op: Op, cos: Op | None, sin: Op | None, head_dim: int) -> None:
    _need((cos is None) == (sin is None), op, "cos and sin come together")
    if cos is not None and sin is not None:
        shape = tensor(cos).shape
        _need(shape == tensor(sin).shape and len(shape) == 2, op, "tables must be [S, rotary / 2]")
        half = shape[1]
        _need(isinstance(half, int) and 2 * half <= head_dim, op, "rotary dims exceed the head")


@dataclass(frozen=True, eq=False)
class RoPE(Op):
    """x[T, H * D] rotated by position, half-split form; Su et al. 2021, arXiv:2104.09864."""

    x: Op
    cos: Op
    sin: Op
    position: Op
    heads: int

    def infer(self) -> Type:
        rows, columns = _matrix(self, self.x)
        _need(columns % self.heads == 0, self, f"{columns} columns for {self.heads} heads")
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
        _, columns = _matrix(self, self.x)
        _need(columns == kind.heads * kind.head_dim, self, f"{columns} columns for {kind}")
        _check_tables(self, self.cos, self.sin, kind.head_dim)
        return kind


@dataclass(frozen=True, eq=False)
class Attention(Op):
    """y[T, H * D]: attention of q (rotated, where tables are given) over the caches.

    Causal: row i sees positions position + i - window + 1 .. position + i (window 0: from the start). Else every
    row sees 0 .. position + T - 1. Scores are scaled by `scale`; query head h reads KV head h // (H / Hkv).
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

    def infer(self) -> Type:
        rows, columns = _matrix(self, self.q)
        _need(self.causal or not self.window, self, "a window needs causal attention")
        k, v = self.k.type, self.v.type
        if not isinstance(k, CacheType) or not isinstance(v, CacheType):
            raise IRError(f"Attention: k and v must be caches, found {k} and {v}")
        _need(self.heads % k.heads == 0, self, f"{self.heads} heads over {k.heads} KV heads")
        _need(columns == self.heads * k.head_dim, self, f"{columns} columns, {self.heads} heads")
        _check_tables(self, self.cos, self.sin, k.head_dim)
        return TensorType(DType.F32, (rows, self.heads * v.head_dim))


@dataclass(frozen=True, eq=False)
class LastRows(Op):
    """y[R, N] = the last R rows of x[T, N]."""

    x: Op
    rows: int | Dim = Dim.R

    def infer(self) -> Type:
        _, columns = _matrix(self, self.x)
        return TensorType(DType.F32, (self.rows, columns))


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """y[1, N] = the T rows of x[T, N] made one."""

    x: Op
    kind: Pooling

    def infer(self) -> Type:
        return TensorType(DType.F32, (1, _matrix(self, self.x)[1]))


@dataclass(frozen=True, eq=False)
class L2Normalize(Op):
    """y[M, N] = x / max(sqrt(sum(x^2)), eps), row by row."""

    x: Op
    eps: float

    def infer(self) -> Type:
        return TensorType(DType.F32, _matrix(self, self.x))


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
        rows, columns = _matrix(self, self.x)
        order, count = self.q * self.r * self.s, sum(n * n for n in (self.q, self.r) if n > 1)
        _need(columns % order == 0 and self.s & (self.s - 1) == 0, self, f"{columns} columns")
        given = 0 if self.signs is None else tensor(self.signs).shape[0]
        _need(given == count, self, f"{count} signs")
        return TensorType(DType.F32, (rows, columns))


@dataclass(frozen=True)
class Graph:
    """Named entries over shared constants. Outputs of an entry: `results` matrices, then the caches it wrote.

    A decoder's frontend makes one entry, `main` (T rows of logits); the split pass makes `prefill` and `decode`.
    With a pooling it has `hidden` too: the rows before the head, of which that pass keeps the last R.
    An encoder has `main` (the pooled vector) and `hidden` (T rows), each with one result and its caches.
    `results` names the matrices that entries give, in order; an entry not listed gives `logits`.
    """

    entries: Mapping[str, tuple[Op, ...]]
    results: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names(self, entry: str) -> tuple[str, ...]:
        """The names of an entry's result matrices, its first outputs."""
        return self.results.get(entry, ("logits",))

    @property
    def is_decoder(self) -> bool:
        """Whether it gives logits; encoders and parts of general graphs name all their results."""
        return any(name not in self.results for name in self.entries)
