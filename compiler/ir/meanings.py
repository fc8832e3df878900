"""The numpy meaning of each op, as docs/arithmetic.md defines it: one short function per op, in a table.

Exact: quantised linears, norms, activations, RoPE, KV and attention give the bits of the kernels.
Close: float weights, where numpy's matmul takes the place of the kernels' fma in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import arithmetic, ops
from hearth.compiler.ir.constants import Block, Constants
from hearth.compiler.ir.evaluate_attention import attend
from hearth.compiler.ir.state import State, Stored
from hearth.compiler.ir.types import CacheType, Dim, Static
from hearth.schemas.commands import Activation

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Codes:
    """Quantised rows: codes i8[M, K], scale f32[M], and the code of 0.0 (not 0 for static codes alone)."""

    codes: NDArray[np.int8]
    scale: F32
    zero: int = 0

    def dequantised(self) -> F32:
        return arithmetic.dequantise(self.codes, self.scale, self.zero)


Value = F32 | NDArray[np.int64] | Codes | Stored | int


@dataclass(eq=False)
class Run:
    """One call of one entry: its inputs by port, their T rows, and the values made so far."""

    inputs: Mapping[str, NDArray[Any]]
    state: State
    constants: Constants
    logit_rows: int = 1
    values: dict[ops.Op, Value] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """T: the rows of the first input."""
        return len(next(iter(self.inputs.values())))

    def matrix(self, op: ops.Op) -> F32:
        """The value of an op that makes floats; a constant is read."""
        if isinstance(op, ops.Constant):
            return self.constants.array(op)
        value = self.values[op]
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{type(op).__name__} made no array")
        return np.asarray(value, np.float32)

    def stored(self, op: ops.Op) -> Stored:
        """The value of an op that makes a cache."""
        value = self.values[op]
        if not isinstance(value, Stored):
            raise TypeError(f"{type(op).__name__} made no cache")
        return value

    def vector(self, op: ops.Op | None) -> F32 | None:
        """The value of an optional constant."""
        return None if op is None else self.matrix(op)

    def positions(self, rows: int) -> NDArray[np.int64]:
        """Absolute positions of the rows of this call."""
        return self.state.position + np.arange(rows)

    def rotated(self, heads: F32, cos: ops.Op | None, sin: ops.Op | None) -> F32:
        """x[T, H, D] rotated by the rows' positions, where tables are given."""
        if cos is None or sin is None:
            return heads
        at = self.positions(len(heads))
        tables = (self.matrix(table)[at][:, None, :] for table in (cos, sin))
        return arithmetic.rope(heads, *tables)


def _split_heads(x: F32, heads: int) -> F32:
    return x.reshape(len(x), heads, -1)


def _merge_heads(x: F32) -> F32:
    return x.reshape(len(x), -1)


def _weight(op: ops.Op) -> ops.Constant:
    if not isinstance(op, ops.Constant):
        raise TypeError(f"a weight must be a Constant, found {type(op).__name__}")
    return op


def _given(op: ops.Tokens | ops.Input, run: Run) -> NDArray[Any]:
    """What the caller gave for a port."""
    if op.port not in run.inputs:
        raise ValueError(f"the entry reads {op.port!r}, given are {', '.join(run.inputs)}")
    given = run.inputs[op.port]
    expected = run.rows if op.rows is Dim.T else op.rows
    if len(given) != expected:
        raise ValueError(f"the entry takes {expected} rows of {op.port}, found {len(given)}")
    return given


def _token_ids(op: ops.Tokens, run: Run) -> NDArray[np.int64]:
    return np.asarray(_given(op, run), np.int64)


def _tokens(op: ops.Tokens, run: Run) -> Value:
    return _token_ids(op, run)


def _input(op: ops.Input, run: Run) -> Value:
    given = np.asarray(_given(op, run), np.float32)
    if given.ndim != 2 or given.shape[1] != op.columns:
        raise ValueError(f"{op.port} has shape {given.shape}, expected {op.columns} columns")
    return given


def _position(op: ops.Position, run: Run) -> Value:
    return run.state.position


def _cache(op: ops.Cache, run: Run) -> Value:
    return run.state.cache(op.cache)


def _embedding(op: ops.Embedding, run: Run) -> Value:
    table = _weight(op.table)
    if not isinstance(op.tokens, ops.Tokens):
        raise TypeError(f"{type(op.tokens).__name__} stands where Tokens must")
    ids = _token_ids(op.tokens, run)
    vocab = table.value.shape[0]
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
        raise ValueError(f"token ids must be in 0..{vocab - 1}")
    return run.constants.rows(table, ids)


def _position_embedding(op: ops.PositionEmbedding, run: Run) -> Value:
    rows = run.rows if isinstance(op.rows, Dim) else op.rows
    return run.constants.rows(_weight(op.table), run.positions(rows))


def _rms_norm(op: ops.RMSNorm | ops.RMSNormQuantize, run: Run) -> F32:
    return arithmetic.rms_norm(run.matrix(op.x), run.vector(op.gain), op.eps)


def _head_norm(op: ops.HeadNorm, run: Run) -> Value:
    x = run.matrix(op.x)
    heads = x.reshape(len(x), op.heads, -1)
    return arithmetic.rms_norm(heads, run.vector(op.gain), op.eps).reshape(x.shape)


def _codes(x: F32, static: Static | None) -> Codes:
    if static is None:
        return Codes(*arithmetic.quantize(x))
    scales = arithmetic.static_scales(x, static)
    return Codes(arithmetic.quantize_static(x, static), scales, static.zero)


def _rms_norm_quantize(op: ops.RMSNormQuantize, run: Run) -> Value:
    return _codes(_rms_norm(op, run), op.static)


def _layer_norm(op: ops.LayerNorm | ops.LayerNormQuantize, run: Run) -> F32:
    gain, bias = run.vector(op.gain), run.vector(op.bias)
    return arithmetic.layer_norm(run.matrix(op.x), gain, bias, op.eps)


def _layer_norm_quantize(op: ops.LayerNormQuantize, run: Run) -> Value:
    return _codes(_layer_norm(op, run), op.static)


def _quantize(op: ops.Quantize, run: Run) -> Value:
    return _codes(run.matrix(op.x), op.static)


def _product(x: F32 | Codes, block: Block) -> F32:
    """x[M, K] @ w[N, K]^T for the rows of one block, scaled."""
    match x:
        case Codes(codes=codes, scale=scale):
            acc = arithmetic.integer_products(codes.astype(np.float32), block.values)
            y = np.asarray(acc * scale[:, None], np.float32)
        case _:
            y = np.asarray(x @ block.values.T, np.float32)
    return y if block.scale is None else np.asarray(y * block.scale, np.float32)


def _epilogue(y: F32, activation: Activation) -> F32:
    match activation:
        case Activation.NONE:
            return y
        case gated if gated.gate is not None:
            half = y.shape[1] // 2
            return arithmetic.gated(y[:, :half], y[:, half:], gated)
        case function:
            return arithmetic.activate(y, function)


def _linear(op: ops.Linear, run: Run) -> Value:
    value = run.values[op.x]
    x = value if isinstance(value, Codes) else run.matrix(op.x)
    blocks = run.constants.blocks(_weight(op.weight))
    y = np.concatenate([_product(x, block) for block in blocks], axis=1)
    if op.bias is not None:
        y = y + run.matrix(op.bias)
    y = _epilogue(y, op.activation)
    return y if op.residual is None else np.asarray(y + run.matrix(op.residual), np.float32)


def _add(op: ops.Add, run: Run) -> Value:
    return np.asarray(run.matrix(op.a) + run.matrix(op.b), np.float32)


def _mul(op: ops.Mul, run: Run) -> Value:
    return np.asarray(run.matrix(op.a) * run.matrix(op.b), np.float32)


def _activate(op: ops.Activate, run: Run) -> Value:
    return arithmetic.activate(run.matrix(op.x), op.activation)


def _gated(op: ops.Gated, run: Run) -> Value:
    return arithmetic.gated(run.matrix(op.gate), run.matrix(op.up), op.activation)


def _scale(op: ops.Scale, run: Run) -> Value:
    return np.asarray(run.matrix(op.x) * np.float32(op.factor), np.float32)


def _soft_cap(op: ops.SoftCap, run: Run) -> Value:
    return arithmetic.soft_cap(run.matrix(op.x), op.cap)


def _slice(op: ops.Slice, run: Run) -> Value:
    return run.matrix(op.x)[:, op.start : op.stop]


def _rope(op: ops.RoPE, run: Run) -> Value:
    heads = _split_heads(run.matrix(op.x), op.heads)
    return _merge_heads(run.rotated(heads, op.cos, op.sin))


def _kv_write(op: ops.KVWrite, run: Run) -> Value:
    kind = op.type
    if not isinstance(kind, CacheType):
        raise TypeError(f"KVWrite made {kind}")
    rows = run.rotated(_split_heads(run.matrix(op.x), kind.heads), op.cos, op.sin)
    before = run.stored(op.cache).keep(run.state.position)
    if before.length != run.state.position:
        raise ValueError(f"{kind} holds {before.length} positions, expected {run.state.position}")
    return before.append(Stored.of(rows, kind.scheme, kind.static))


def _attention(op: ops.Attention, run: Run) -> Value:
    q = run.rotated(_split_heads(run.matrix(op.q), op.heads), op.cos, op.sin)
    k, v = run.stored(op.k), run.stored(op.v)
    y = attend(q, k, v, run.state.position, op.scale, op.window, op.causal, op.cap)
    return _merge_heads(y)


def _last_rows(op: ops.LastRows, run: Run) -> Value:
    x = run.matrix(op.x)
    rows = run.logit_rows if isinstance(op.rows, Dim) else op.rows
    if not 1 <= rows <= len(x):
        raise ValueError(f"{rows} rows of logits asked for, the call has {len(x)}")
    return x[len(x) - rows :]


def _pool(op: ops.Pool, run: Run) -> Value:
    return arithmetic.pool(run.matrix(op.x), op.kind)


def _hadamard(op: ops.Hadamard, run: Run) -> Value:
    return arithmetic.hadamard(run.matrix(op.x), run.vector(op.signs), (op.q, op.r, op.s))


def _l2_normalize(op: ops.L2Normalize, run: Run) -> Value:
    return arithmetic.l2_normalize(run.matrix(op.x), op.eps)


def _constant(op: ops.Constant, run: Run) -> Value:
    return 0  # read where it is used, block by block


MEANINGS: Mapping[type[ops.Op], Callable[[Any, Run], Value]] = {
    ops.Tokens: _tokens,
    ops.Input: _input,
    ops.Position: _position,
    ops.Constant: _constant,
    ops.Cache: _cache,
    ops.Embedding: _embedding,
    ops.PositionEmbedding: _position_embedding,
    ops.RMSNorm: _rms_norm,
    ops.RMSNormQuantize: _rms_norm_quantize,
    ops.HeadNorm: _head_norm,
    ops.LayerNorm: _layer_norm,
    ops.LayerNormQuantize: _layer_norm_quantize,
    ops.Quantize: _quantize,
    ops.Linear: _linear,
    ops.Add: _add,
    ops.Mul: _mul,
    ops.Activate: _activate,
    ops.Gated: _gated,
    ops.Scale: _scale,
    ops.SoftCap: _soft_cap,
    ops.Slice: _slice,
    ops.RoPE: _rope,
    ops.KVWrite: _kv_write,
    ops.Attention: _attention,
    ops.LastRows: _last_rows,
    ops.Pool: _pool,
    ops.L2Normalize: _l2_normalize,
    ops.Hadamard: _hadamard,
}


def meaning(op: ops.Op, run: Run) -> Value:
    """The value of one op, its operands' values being in `run.values`."""
    return MEANINGS[type(op)](op, run)
