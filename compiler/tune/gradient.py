"""Reverse mode over a float decoder's graph: how a change of its weights and gains changes a result.

numpy, f32, one text at a time. Going back costs two products a linear, twice as much as going forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.arithmetic import hadamard
from hearth.compiler.ir.ops import (
    Add,
    Attention,
    Constant,
    Embedding,
    Hadamard,
    HeadNorm,
    KVWrite,
    LayerNorm,
    Linear,
    Mul,
    Op,
    PositionEmbedding,
    RMSNorm,
    Scale,
    Slice,
)
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import Source
from hearth.compiler.ir.types import CacheType
from hearth.compiler.tune.activations import ACTIVATIONS
from hearth.compiler.tune.rounding import UNROUNDED, Rounding, Roundings
from hearth.schemas.errors import UsageError

F32 = NDArray[np.float32]
Ids = NDArray[np.int32]
Constants = Mapping[str, F32]
Grads = Iterator[tuple[Op, F32]]
Norm = RMSNorm | LayerNorm | HeadNorm
COMPUTED = (
    Add, Attention, Embedding, Hadamard, HeadNorm, KVWrite, LayerNorm, Linear, Mul,
    PositionEmbedding, RMSNorm, Scale, Slice,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Network:
    """The function that gives `result` f32[T, N] for the ids of a text from position 0, over constants by name.

    What passes is rounded as `roundings` say, with straight-through gradients (compiler/tune/rounding.py).
    UsageError calibration.tune where an op has no gradient here.
    """

    result: Op
    roundings: Roundings = UNROUNDED
    sequence: tuple[Op, ...] = field(init=False)  # of what is computed
    constants: tuple[Constant, ...] = field(init=False)
    weights: frozenset[str] = field(init=False)  # the constants that have gradients

    def __post_init__(self) -> None:
        every = order([self.result])
        for op in every:
            if op.operands and not isinstance(op, COMPUTED):
                raise _refused(type(op).__name__)
            if isinstance(op, Attention) and op.cap:
                raise _refused("capped scores of attention")
            if isinstance(op, Linear) and op.activation not in ACTIVATIONS:
                raise _refused(op.activation.name)
            if isinstance(op, Constant) and not isinstance(op.value, Source):
                raise _refused(f"weights that came quantised ({op.name})")
        computed = tuple(op for op in every if isinstance(op, COMPUTED))
        named = {name for op in computed for name in _weight(op)}
        object.__setattr__(self, "sequence", computed)
        object.__setattr__(self, "constants", tuple(op for op in every if isinstance(op, Constant)))
        object.__setattr__(self, "weights", frozenset(named))

    def run(self, ids: Ids, constants: Constants) -> Run:
        """Forward, for ids i32[T]."""
        run = Run(self, ids, constants)
        for op in self.sequence:
            run.values[op] = run.forward(op)
        return run


def _weight(op: Op) -> Iterator[str]:
    match op:
        case (
            Linear(weight=Constant(name=name))
            | Embedding(table=Constant(name=name))
            | RMSNorm(gain=Constant(name=name))
            | HeadNorm(gain=Constant(name=name))
            | LayerNorm(gain=Constant(name=name))
        ):
            yield name


def _refused(what: str) -> UsageError:
    return UsageError(
        "calibration.tune",
        f"method tune for a model with {what}",
        expected="a decoder of linears, norms, attention, and SwiGLU, GeGLU, SiLU, GELU or ReLU",
        remedy="leave tune out of --method",
    )


@dataclass(eq=False)
class Run:
    """The values of one text, and the gradients of a loss of its result."""

    network: Network
    ids: Ids
    constants: Constants
    values: dict[Op, F32] = field(default_factory=dict)
    before: dict[Op, F32] = field(default_factory=dict)  # of activation; attention's weights

    @property
    def result(self) -> F32:
        return self.values[self.network.result]

    def gradients(self, change: F32, found: dict[str, F32]) -> None:
        """Add those of weights and gains to `found`, for the gradient f32[T, N] of the result. Uses the values up."""
        waiting: dict[Op, F32] = {self.network.result: change}
        for op in reversed(self.network.sequence):
            if op not in waiting:
                continue
            for operand, part in self._backward(op, waiting.pop(op), found):
                if not isinstance(operand, Constant):
                    waiting[operand] = waiting[operand] + part if operand in waiting else part
            self.values.pop(op)

    # ------------------------------------------------------------ forward

    def forward(self, op: Op) -> F32:
        match op:
            case Embedding(table=table):
                return self._constant(table)[self.ids]
            case PositionEmbedding(table=table):
                return self._constant(table)[: len(self.ids)]
            case RMSNorm() | LayerNorm() | HeadNorm():
                y = self._scaled(op, self._normal(op)[0])
                return y.reshape(len(self.ids), -1)
            case Linear():
                return self._linear(op)
            case Add(a=a, b=b):
                return self._value(a) + self._value(b)
            case Mul(a=a, b=b):
                return self._value(a) * self._value(b)
            case Scale(x=x, factor=factor):
                return self._value(x) * np.float32(factor)
            case Slice(x=x, start=start, stop=stop):
                return self._value(x)[:, start:stop]
            case Hadamard(x=x):
                return hadamard(self._value(x), self._signs(op), (op.q, op.r, op.s))
            case KVWrite(x=x, cos=cos, sin=sin):
                heads = self._turned(self._heads(x, _cache(op).heads), cos, sin, 1)
                return self._rounding(op).rounded(heads)
            case Attention():
                weights = self.before[op] = self._weights(op)
                y = weights @ self._value(op.v).swapaxes(0, 1)[:, None]
                return np.ascontiguousarray(y.transpose(2, 0, 1, 3)).reshape(len(self.ids), -1)
        raise TypeError(type(op).__name__)

    def _linear(self, op: Linear) -> F32:
        z = self._rounding(op).rounded(self._value(op.x)) @ self._constant(op.weight).T
        if op.bias is not None:
            z = z + self._constant(op.bias)
        self.before[op] = z
        y = ACTIVATIONS[op.activation].forward(z)
        return y if op.residual is None else y + self._value(op.residual)

    def _normal(self, op: Norm) -> tuple[F32, F32]:
        """The rows (heads, where each is normalised by itself) without gain, and what they were multiplied with."""
        x = self._parts(op, self._value(op.x))
        if isinstance(op, LayerNorm):
            x = x - x.mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(op.eps))
        return x * inverse, inverse

    def _parts(self, op: Norm, rows: F32) -> F32:
        """What is normalised as one along the last axis."""
        return rows.reshape(len(rows), op.heads, -1) if isinstance(op, HeadNorm) else rows

    def _scaled(self, op: Norm, rows: F32) -> F32:
        if op.gain is not None:
            rows = rows * self._constant(op.gain)
        if isinstance(op, LayerNorm) and op.bias is not None:
            rows = rows + self._constant(op.bias)
        return rows

    def _signs(self, op: Hadamard, transposed: bool = False) -> F32 | None:
        """Of the dense factors, or of their transposes: all factors are orthogonal, and the sparse one symmetric."""
        if op.signs is None or not transposed:
            return None if op.signs is None else self._constant(op.signs)
        signs, orders = self._constant(op.signs), [n for n in (op.q, op.r) if n > 1]
        parts = np.split(signs, np.cumsum([n * n for n in orders])[:-1])
        turned = [part.reshape(n, n).T.ravel() for part, n in zip(parts, orders, strict=True)]
        return np.concatenate(turned)

    def _heads(self, x: Op, heads: int) -> F32:
        return self._value(x).reshape(len(self.ids), heads, -1)

    def _turned(self, x: F32, cos: Op | None, sin: Op | None, way: int) -> F32:
        """Heads f32[T, H, D] with their positions, or (way -1) without them."""
        if cos is None or sin is None:
            return x
        c = self._constant(cos)[: len(x), None]
        s = np.float32(way) * self._constant(sin)[: len(x), None]
        half = c.shape[2]
        a, b = x[..., :half], x[..., half : 2 * half]
        return np.concatenate([a * c - b * s, b * c + a * s, x[..., 2 * half :]], axis=2)

    def _queries(self, op: Attention) -> F32:
        """[Hkv, G, T, D]."""
        q = self._turned(self._heads(op.q, op.heads), op.cos, op.sin, 1)
        q = self.network.roundings.queries.rounded(q)
        return q.reshape(len(q), _cache(op.k).heads, -1, q.shape[2]).transpose(1, 2, 0, 3)

    def _weights(self, op: Attention) -> F32:
        """What each position gets of the others, [Hkv, G, T, T]."""
        keys = self._value(op.k).transpose(1, 2, 0)[:, None]
        scores = (self._queries(op) @ keys) * np.float32(op.scale)
        at = np.arange(len(self.ids))
        seen = (at[None] <= at[:, None]) | (not op.causal)
        if op.window:
            seen &= at[None] > at[:, None] - op.window
        np.copyto(scores, np.float32(-np.inf), where=~seen)
        scores -= scores.max(axis=3, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=3, keepdims=True)
        return scores

    # ------------------------------------------------------------ backward

    def _backward(self, op: Op, change: F32, found: dict[str, F32]) -> Grads:
        """What the operands' gradients get."""
        match op:
            case Embedding(table=table):
                np.add.at(self._gradient(table, found), self.ids, change)
            case RMSNorm() | LayerNorm() | HeadNorm():
                yield op.x, self._norm_back(op, change, found)
            case Linear():
                yield from self._linear_back(op, change, found)
            case Add(a=a, b=b):
                yield a, change
                yield b, change
            case Mul(a=a, b=b):
                yield a, change * self._value(b)
                yield b, change * self._value(a)
            case Scale(x=x, factor=factor):
                yield x, change * np.float32(factor)
            case Slice(x=x, start=start, stop=stop):
                whole = np.zeros_like(self._value(x))
                whole[:, start:stop] = change
                yield x, whole
            case Hadamard(x=x):
                back = self._signs(op, transposed=True)
                yield x, hadamard(change, back, (op.q, op.r, op.s))
            case KVWrite(x=x, cos=cos, sin=sin):
                heads = self._turned(self._heads(x, _cache(op).heads), cos, sin, 1)
                change = self._rounding(op).passed(heads, change)
                yield x, self._turned(change, cos, sin, -1).reshape(len(change), -1)
            case Attention():
                yield from self._attention_back(op, change)

    def _norm_back(self, op: Norm, change: F32, found: dict[str, F32]) -> F32:
        rows, inverse = self._normal(op)
        change = self._parts(op, change)
        if op.gain is not None:
            along = change * rows
            self._gradient(op.gain, found)[:] += along.sum(axis=tuple(range(along.ndim - 1)))
            change = change * self._constant(op.gain)
        change = change - rows * (change * rows).mean(axis=-1, keepdims=True)
        if isinstance(op, LayerNorm):
            change = change - change.mean(axis=-1, keepdims=True)
        return (change * inverse).reshape(len(change), -1)

    def _linear_back(self, op: Linear, change: F32, found: dict[str, F32]) -> Grads:
        if op.residual is not None:
            yield op.residual, change
        change = ACTIVATIONS[op.activation].back(self.before.pop(op), change)
        x, rounding = self._value(op.x), self._rounding(op)
        self._gradient(op.weight, found)[:] += change.T @ rounding.rounded(x)
        yield op.x, rounding.passed(x, change @ self._constant(op.weight))

    def _attention_back(self, op: Attention, change: F32) -> Grads:
        keys, values = self._value(op.k), self._value(op.v)
        weights, queries = self.before.pop(op), self._queries(op)
        kv_heads, group, rows, _ = weights.shape
        given = change.reshape(rows, kv_heads, group, -1).transpose(1, 2, 0, 3)
        yield op.v, _by_head(np.swapaxes(weights, 2, 3) @ given)
        score = given @ values.transpose(1, 2, 0)[:, None]
        score = weights * (score - (score * weights).sum(axis=3, keepdims=True))
        score *= np.float32(op.scale)
        yield op.k, _by_head(np.swapaxes(score, 2, 3) @ queries)
        asked = (score @ keys.swapaxes(0, 1)[:, None]).transpose(2, 0, 1, 3)
        asked = self._turned(asked.reshape(rows, op.heads, -1), op.cos, op.sin, -1)
        yield op.q, asked.reshape(rows, -1)

    def _rounding(self, op: Linear | KVWrite) -> Rounding:
        """Of what a linear reads, of what a cache keeps."""
        match op:
            case Linear(weight=Constant(name=name)):
                return self.network.roundings.of_input(name)
            case KVWrite():
                return self.network.roundings.of_cache(_cache(op).layer, _cache(op).kind)
        raise TypeError("a linear without a constant weight")

    # ------------------------------------------------------------ constants

    def _value(self, op: Op) -> F32:
        return self.constants[op.name] if isinstance(op, Constant) else self.values[op]

    def _constant(self, op: Op) -> F32:
        assert isinstance(op, Constant)
        return self.constants[op.name]

    def _gradient(self, op: Op, found: dict[str, F32]) -> F32:
        """Where the constant's gradient is summed."""
        assert isinstance(op, Constant)
        if op.name not in found:
            found[op.name] = np.zeros_like(self.constants[op.name])
        return found[op.name]


def _cache(op: Op) -> CacheType:
    kind = op.type
    assert isinstance(kind, CacheType)
    return kind


def _by_head(parts: F32) -> F32:
    """[Hkv, G, T, D] summed over the heads that share one, [T, Hkv, D]."""
    return np.ascontiguousarray(parts.sum(axis=1).swapaxes(0, 1))
