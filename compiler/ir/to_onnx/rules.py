"""How each op is written in standard ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from hearth.compiler.ir import arithmetic, ops
from hearth.compiler.ir.tensors import QuantisedSource
from hearth.compiler.ir.to_onnx import rules_state
from hearth.compiler.ir.to_onnx.builder import Builder
from hearth.compiler.ir.to_onnx.values import Coded, Value
from hearth.compiler.ir.types import Dim
from hearth.schemas.commands import Activation, Pooling
from hearth.schemas.dtypes import DType

LARGEST_SYLVESTER = 64


def _tokens(op: ops.Tokens, b: Builder) -> Value:
    return b.input(op.port, onnx.TensorProto.INT32, [b.dim(op.rows)])


def _input(op: ops.Input, b: Builder) -> Value:
    return b.input(op.port, onnx.TensorProto.FLOAT, [b.dim(op.rows), op.columns])


def _position(op: ops.Position, b: Builder) -> Value:
    return b.input("position", onnx.TensorProto.INT64, [])


def _constant(op: ops.Constant, b: Builder) -> Value:
    return op


def _looked_up(table: ops.Constant, indices: str, b: Builder) -> str:
    """Rows of a table as f32."""
    rows = b.node("Gather", b.weight(table), indices, axis=0)
    if not isinstance(table.value, QuantisedSource):
        is_f32 = ops.tensor(table).dtype is DType.F32 or b.is_spread(table)
        return rows if is_f32 else b.node("Cast", rows, to=onnx.TensorProto.FLOAT)
    scale = b.node("Gather", f"{table.name}.scale", indices, axis=0)
    return b.node("DequantizeLinear", rows, scale, axis=0)


def _embedding(op: ops.Embedding, b: Builder) -> Value:
    return _looked_up(b.constant(op.table), b.plain(op.tokens), b)


def _position_embedding(op: ops.PositionEmbedding, b: Builder) -> Value:
    return _looked_up(b.constant(op.table), rules_state.positions(op.position, b), b)


def _width(x: ops.Op) -> int:
    columns = ops.tensor(x).shape[1]
    if not isinstance(columns, int):
        raise TypeError("columns must be known")
    return columns


def _gain(gain: ops.Op | None, columns: int, b: Builder) -> str:
    """The gain, or one that does nothing: ONNX wants one."""
    return b.array(np.ones(columns, np.float32)) if gain is None else b.plain(gain)


def _normalised(op: ops.RMSNorm | ops.RMSNormQuantize, b: Builder) -> str:
    x, gain = b.plain(op.x), _gain(op.gain, _width(op.x), b)
    return b.node("RMSNormalization", x, gain, axis=-1, epsilon=op.eps)


def _head_norm(op: ops.HeadNorm, b: Builder) -> Value:
    columns = _width(op.x)
    dim = columns // op.heads
    heads = b.node("Reshape", b.plain(op.x), b.i64(-1, op.heads, dim))
    y = b.node("RMSNormalization", heads, _gain(op.gain, dim, b), axis=-1, epsilon=op.eps)
    return b.node("Reshape", y, b.i64(-1, columns))


def _rms_norm(op: ops.RMSNorm, b: Builder) -> Value:
    return _normalised(op, b)


def _rms_norm_quantize(op: ops.RMSNormQuantize, b: Builder) -> Value:
    return rules_state.coded(_normalised(op, b), op.static, b)


def _layer_normalised(op: ops.LayerNorm | ops.LayerNormQuantize, b: Builder) -> str:
    gain = _gain(op.gain, _width(op.x), b)
    bias = () if op.bias is None else (b.plain(op.bias),)
    x = b.plain(op.x)
    return b.node("LayerNormalization", x, gain, *bias, axis=-1, epsilon=op.eps)


def _layer_norm(op: ops.LayerNorm, b: Builder) -> Value:
    return _layer_normalised(op, b)


def _layer_norm_quantize(op: ops.LayerNormQuantize, b: Builder) -> Value:
    return rules_state.coded(_layer_normalised(op, b), op.static, b)


def _quantize(op: ops.Quantize, b: Builder) -> Value:
    return rules_state.coded(b.plain(op.x), op.static, b)


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


FUNCTIONS: Mapping[Activation, Callable[[str, Builder], str]] = {
    Activation.SILU: _sigmoid_product,
    Activation.GELU: lambda x, b: b.node("Gelu", x, approximate="none"),
    Activation.GELU_TANH: lambda x, b: b.node("Gelu", x, approximate="tanh"),
    Activation.RELU: lambda x, b: b.node("Relu", x),
    Activation.TANH: lambda x, b: b.node("Tanh", x),
    Activation.SIGMOID: lambda x, b: b.node("Sigmoid", x),
}


def _gate(x: str, activation: Activation, b: Builder) -> str:
    """What the gate of a gated activation gives."""
    if activation.gate is None:
        raise TypeError(f"{activation.name} is not gated")
    return FUNCTIONS[activation.gate](x, b)


def _epilogue(y: str, op: ops.Linear, b: Builder) -> str:
    match op.activation:
        case Activation.NONE:
            return y
        case gated if gated.gate is not None:
            half = b.constant(op.weight).value.shape[0] // 2
            gate, up = _columns(y, 0, half, b), _columns(y, half, 2 * half, b)
            return b.node("Mul", _gate(gate, gated, b), up)
        case function:
            return FUNCTIONS[function](y, b)


def _linear(op: ops.Linear, b: Builder) -> Value:
    y = _epilogue(_product(op, b), op, b)
    return y if op.residual is None else b.node("Add", y, b.plain(op.residual))


def _add(op: ops.Add, b: Builder) -> Value:
    return b.node("Add", b.plain(op.a), b.plain(op.b))


def _mul(op: ops.Mul, b: Builder) -> Value:
    return b.node("Mul", b.plain(op.a), b.plain(op.b))


def _activate(op: ops.Activate, b: Builder) -> Value:
    return FUNCTIONS[op.activation](b.plain(op.x), b)


def _gated(op: ops.Gated, b: Builder) -> Value:
    return b.node("Mul", _gate(b.plain(op.gate), op.activation, b), b.plain(op.up))


def _scale(op: ops.Scale, b: Builder) -> Value:
    return b.node("Mul", b.plain(op.x), b.f32(op.factor))


def _soft_cap(op: ops.SoftCap, b: Builder) -> Value:
    cap = b.f32(op.cap)
    return b.node("Mul", b.node("Tanh", b.node("Div", b.plain(op.x), cap)), cap)


def _slice(op: ops.Slice, b: Builder) -> Value:
    return _columns(b.plain(op.x), op.start, op.stop, b)


def _last(x: str, rows: int, b: Builder) -> str:
    end = int(np.iinfo(np.int64).max)
    return b.node("Slice", x, b.i64(-rows), b.i64(end), b.i64(0))


def _last_rows(op: ops.LastRows, b: Builder) -> Value:
    rows = b.logit_rows if isinstance(op.rows, Dim) else op.rows
    return _last(b.plain(op.x), rows, b)


def _pool(op: ops.Pool, b: Builder) -> Value:
    x = b.plain(op.x)
    match op.kind:
        case Pooling.MEAN:
            return b.node("ReduceMean", x, b.i64(0), keepdims=1)
        case Pooling.FIRST:
            return b.node("Slice", x, b.i64(0), b.i64(1), b.i64(0))
        case Pooling.LAST:
            return _last(x, 1, b)
        case Pooling.MAX:
            return b.node("ReduceMax", x, b.i64(0), keepdims=1)


def _hadamard(op: ops.Hadamard, b: Builder) -> Value:
    """A product per factor: rows [M * K / (order * inner), order, inner] under [order, order]."""
    columns, y = int(ops.tensor(op.x).shape[1]), b.plain(op.x)
    signs = None if op.signs is None else b.plain(op.signs)
    inner, at = op.q * op.r * op.s, 0
    for order in (op.q, op.r):
        inner //= order
        if order > 1 and signs is not None:
            part = b.node("Slice", signs, b.i64(at), b.i64(at + order * order), b.i64(0))
            factor = b.node("Reshape", part, b.i64(order, order))
            y = b.node("MatMul", factor, b.node("Reshape", y, b.i64(-1, order, inner)))
            at += order * order
    step = op.s
    while step > 1:  # Sylvester's matrix is symmetric, and a product of smaller ones
        order = min(step, LARGEST_SYLVESTER)
        step //= order
        factor = b.array(arithmetic.sylvester(order))
        y = b.node("MatMul", factor, b.node("Reshape", y, b.i64(-1, order, step)))
    scale = b.f32(float(arithmetic.hadamard_scale(op.q * op.r * op.s)))
    return b.node("Mul", b.node("Reshape", y, b.i64(-1, columns)), scale)


def _l2_normalize(op: ops.L2Normalize, b: Builder) -> Value:
    x = b.plain(op.x)
    length = b.node("ReduceL2", x, b.i64(-1), keepdims=1)
    return b.node("Div", x, b.node("Max", length, b.f32(op.eps)))


RULES: Mapping[type[ops.Op], Callable[[Any, Builder], Value]] = {
    ops.Tokens: _tokens,
    ops.Input: _input,
    ops.Position: _position,
    ops.Constant: _constant,
    ops.Cache: rules_state.cache,
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
    ops.RoPE: rules_state.rope,
    ops.KVWrite: rules_state.kv_write,
    ops.Attention: rules_state.attention,
    ops.LastRows: _last_rows,
    ops.Pool: _pool,
    ops.L2Normalize: _l2_normalize,
    ops.Hadamard: _hadamard,
}
