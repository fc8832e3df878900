"""How each op is written in standard ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from hearth.compiler.ir import ops
from hearth.compiler.ir.tensors import QuantisedSource
from hearth.compiler.ir.to_onnx import rules_state
from hearth.compiler.ir.to_onnx.builder import Builder
from hearth.compiler.ir.to_onnx.values import Coded, Value
from hearth.compiler.ir.types import Dim
from hearth.schemas.commands import Activation
from hearth.schemas.dtypes import DType


def _tokens(op: ops.Tokens, b: Builder) -> Value:
    return b.input("tokens", onnx.TensorProto.INT32, [b.dim(op.rows)])


def _position(op: ops.Position, b: Builder) -> Value:
    return b.input("position", onnx.TensorProto.INT64, [])


def _constant(op: ops.Constant, b: Builder) -> Value:
    return op


def _embedding(op: ops.Embedding, b: Builder) -> Value:
    table, tokens = b.constant(op.table), b.plain(op.tokens)
    rows = b.node("Gather", b.weight(table), tokens, axis=0)
    if not isinstance(table.value, QuantisedSource):
        stored = ops.tensor(table).dtype
        return rows if stored is DType.F32 else b.node("Cast", rows, to=onnx.TensorProto.FLOAT)
    scale = b.node("Gather", f"{table.name}.scale", tokens, axis=0)
    return b.node("DequantizeLinear", rows, scale, axis=0)


def _normalised(op: ops.RMSNorm | ops.RMSNormQuantize, b: Builder) -> str:
    x = b.plain(op.x)
    columns = ops.tensor(op.x).shape[1]
    if not isinstance(columns, int):
        raise TypeError("columns must be known")
    gain = b.array(np.ones(columns, np.float32)) if op.gain is None else b.plain(op.gain)
    return b.node("RMSNormalization", x, gain, axis=-1, epsilon=op.eps)


def _rms_norm(op: ops.RMSNorm, b: Builder) -> Value:
    return _normalised(op, b)


def _rms_norm_quantize(op: ops.RMSNormQuantize, b: Builder) -> Value:
    return rules_state.quantised(_normalised(op, b), b)


def _quantize(op: ops.Quantize, b: Builder) -> Value:
    return rules_state.quantised(b.plain(op.x), b)


def _integers(weight: ops.Constant, b: Builder) -> str:
    """The effective int8 weight of a quantised constant as f32[N, K]."""
    name = b.weight(weight)
    made = b.once(("integers", weight))
    if made is None:
        if b.is_int4(weight) and isinstance(weight.value, QuantisedSource):
            groups = f"{name}.multipliers"
            made = b.node("DequantizeLinear", name, groups, axis=1, block_size=weight.value.group)
        else:
            made = b.node("DequantizeLinear", name, b.f32(1.0))
        b.once(("integers", weight), made)
    return made


def _product(op: ops.Linear, b: Builder) -> str:
    """x @ w^T + bias."""
    weight, x = b.constant(op.weight), b.coded(op.x)
    bias = () if op.bias is None else (b.plain(op.bias),)
    if not isinstance(weight.value, QuantisedSource):
        return b.node("Gemm", b.plain(op.x), b.floats(weight), *bias, transB=1)
    codes = x.codes if isinstance(x, Coded) else x
    y = b.node("Gemm", codes, _integers(weight, b), transB=1)
    if isinstance(x, Coded):
        y = b.node("Mul", y, x.scale)
    y = b.node("Mul", y, f"{weight.name}.scale")
    return b.node("Add", y, *bias) if bias else y


def _sigmoid_product(x: str, b: Builder) -> str:
    """x / (1 + exp(-x)): relative accuracy for all x, which Sigmoid need not have."""
    ones = b.node("Add", b.node("Exp", b.node("Neg", x)), b.f32(1.0))
    return b.node("Div", x, ones)


def _columns(x: str, start: int, stop: int, b: Builder) -> str:
    return b.node("Slice", x, b.i64(start), b.i64(stop), b.i64(1))


def _activate(y: str, op: ops.Linear, b: Builder) -> str:
    match op.activation:
        case Activation.NONE:
            return y
        case Activation.SILU:
            return _sigmoid_product(y, b)
        case Activation.SWIGLU:
            half = b.constant(op.weight).value.shape[0] // 2
            gate, up = _columns(y, 0, half, b), _columns(y, half, 2 * half, b)
            return b.node("Mul", _sigmoid_product(gate, b), up)


def _linear(op: ops.Linear, b: Builder) -> Value:
    y = _activate(_product(op, b), op, b)
    return y if op.residual is None else b.node("Add", y, b.plain(op.residual))


def _add(op: ops.Add, b: Builder) -> Value:
    return b.node("Add", b.plain(op.a), b.plain(op.b))


def _mul(op: ops.Mul, b: Builder) -> Value:
    return b.node("Mul", b.plain(op.a), b.plain(op.b))


def _silu(op: ops.Silu, b: Builder) -> Value:
    return _sigmoid_product(b.plain(op.x), b)


def _swiglu(op: ops.SwiGLU, b: Builder) -> Value:
    return b.node("Mul", _sigmoid_product(b.plain(op.gate), b), b.plain(op.up))


def _slice(op: ops.Slice, b: Builder) -> Value:
    return _columns(b.plain(op.x), op.start, op.stop, b)


def _last_rows(op: ops.LastRows, b: Builder) -> Value:
    rows = b.logit_rows if isinstance(op.rows, Dim) else op.rows
    end = int(np.iinfo(np.int64).max)
    return b.node("Slice", b.plain(op.x), b.i64(-rows), b.i64(end), b.i64(0))


RULES: Mapping[type[ops.Op], Callable[[Any, Builder], Value]] = {
    ops.Tokens: _tokens,
    ops.Position: _position,
    ops.Constant: _constant,
    ops.Cache: rules_state.cache,
    ops.Embedding: _embedding,
    ops.RMSNorm: _rms_norm,
    ops.RMSNormQuantize: _rms_norm_quantize,
    ops.Quantize: _quantize,
    ops.Linear: _linear,
    ops.Add: _add,
    ops.Mul: _mul,
    ops.Silu: _silu,
    ops.SwiGLU: _swiglu,
    ops.Slice: _slice,
    ops.RoPE: rules_state.rope,
    ops.KVWrite: rules_state.kv_write,
    ops.Attention: rules_state.attention,
    ops.LastRows: _last_rows,
}
