"""How far two float32 evaluations of one op, of the same operands, can lie apart: derived, never tuned.

u = 2^-24 is the unit roundoff and gamma(n) = n u / (1 - n u) bounds the relative error of n roundings (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, section 3.1); it holds for sums in any order, with or
without fma. Each side may be off by gamma(n), hence the factor 2. Exp is taken to be good to 4 u on both
sides (test_arithmetic.py and test_onnx_ops.py check that). A bound of 0 means: the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import arithmetic, ops
from hearth.compiler.ir.meanings import Codes, Run
from hearth.compiler.ir.tensors import QuantisedSource
from hearth.compiler.ir.types import Static
from hearth.schemas.commands import GATES, Activation, KVScheme, Pooling

F64 = NDArray[np.float64]
U = 2.0**-24
EXP = 4  # roundings that exp may cost
SLOPE = 1.1  # |silu'| is below 1.0999
FLUSH = 2.0**-120  # what clamping exp at -87 can leave of a product
SLOPES = {
    Activation.SILU: SLOPE,
    Activation.GELU: 1.13,  # the derivatives' largest values
    Activation.GELU_TANH: 1.13,
    Activation.RELU: 1.0,
    Activation.TANH: 1.0,
    Activation.SIGMOID: 0.25,
}
FUNCTION_ERROR: Mapping[Activation, Callable[[F64], F64]] = {
    # of |x|; what either side may be off (test_to_onnx_ops.py checks both against float64)
    Activation.GELU: lambda x: x * 2.0**-21,
    Activation.GELU_TANH: lambda x: x * 2.0**-20,
    Activation.RELU: lambda x: x * 0,
    Activation.TANH: lambda x: np.minimum(x, 1) * 2.0**-20,
    Activation.SIGMOID: lambda x: np.full_like(x, 2.0**-21),
}


def gamma(n: float) -> float:
    return n * U / (1 - n * U)


@dataclass(frozen=True)
class CodedBound:
    """Where a code may differ, by one; and how far the scales may lie apart."""

    flips: NDArray[np.bool_]
    scale: F64


Bound = F64 | CodedBound


def _zero(op: ops.Op, run: Run, y: Any) -> Bound:
    return np.zeros(())


def _coded_exactly(op: ops.Op, run: Run, y: Codes) -> Bound:
    return CodedBound(np.zeros(y.codes.shape, bool), np.zeros(y.scale.shape))


def coded(x: F64, error: F64) -> CodedBound:
    """quantize of rows x[..., K] that are known up to `error`."""
    a = np.abs(x).max(axis=-1)
    a_error = error.max(axis=-1)
    safe = np.maximum(a, 2.0**-90)[..., None]
    t = x * 127 / safe
    t_error = 127 * error / safe + np.abs(t) * (a_error[..., None] / safe + gamma(6))
    distance = np.abs(t - np.floor(t) - 0.5)
    return CodedBound(distance <= t_error, a_error / 127 + a / 127 * gamma(2))


def fixed(x: F64, error: F64, static: Static) -> CodedBound:
    """quantize_static of rows that are known up to `error`; the scale is exact."""
    t = x / static.scale
    t_error = error / static.scale + np.abs(t) * gamma(3)
    distance = np.abs(t - np.floor(t) - 0.5)
    return CodedBound(distance <= t_error, np.zeros(x.shape[:-1]))


def _coded(x: F64, error: F64, static: Static | None) -> CodedBound:
    return coded(x, error) if static is None else fixed(x, error, static)


def _norm_error(op: ops.RMSNorm | ops.RMSNormQuantize, y: F64) -> F64:
    """The square root halves the relative error of the E products and sums."""
    return 2 * gamma(ops.tensor(op.x).shape[1] / 2 + 8) * np.abs(y)


def _rms_norm(op: ops.RMSNorm, run: Run, y: Any) -> Bound:
    return _norm_error(op, y.astype(np.float64))


def _rms_norm_quantize(op: ops.RMSNormQuantize, run: Run, y: Codes) -> Bound:
    gain = None if op.gain is None else run.matrix(op.gain)
    normed = arithmetic.rms_norm(run.matrix(op.x), gain, op.eps).astype(np.float64)
    return _coded(normed, _norm_error(op, normed), op.static)


def _head_norm(op: ops.HeadNorm, run: Run, y: Any) -> Bound:
    dim = ops.tensor(op.x).shape[1] // op.heads
    return 2 * gamma(dim / 2 + 8) * np.abs(y.astype(np.float64))


def _layer_norm_error(op: ops.LayerNorm | ops.LayerNormQuantize, run: Run) -> F64:
    """The mean is off by gamma(E) of the mean size; that and the square root's error are scaled by r and the gain."""
    x = run.matrix(op.x).astype(np.float64)
    columns = x.shape[1]
    centred = x - x.mean(axis=-1, keepdims=True)
    slip = gamma(columns + 1) * np.abs(x).mean(axis=-1, keepdims=True) + U * np.abs(centred)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    # the variance's error: of its sum, and of centred values that are off by slip
    spread = gamma(columns + 3) * variance + 2 * np.sqrt(variance) * slip.max(-1, keepdims=True)
    spread = spread + slip.max(-1, keepdims=True) ** 2
    r = 1 / np.sqrt(variance + op.eps)
    y, error = centred * r, slip * r + np.abs(centred) * r * (spread * r**2 + gamma(6))
    if op.gain is not None:
        gain = run.matrix(op.gain).astype(np.float64)
        y, error = y * gain, error * np.abs(gain)
    if op.bias is not None:
        y = y + run.matrix(op.bias).astype(np.float64)
    return 2 * (error * (1 + gamma(4)) + gamma(2) * np.abs(y))


def _layer_norm(op: ops.LayerNorm, run: Run, y: Any) -> Bound:
    return _layer_norm_error(op, run)


def _layer_norm_quantize(op: ops.LayerNormQuantize, run: Run, y: Codes) -> Bound:
    gain, bias = run.vector(op.gain), run.vector(op.bias)
    normed = arithmetic.layer_norm(run.matrix(op.x), gain, bias, op.eps).astype(np.float64)
    return _coded(normed, _layer_norm_error(op, run), op.static)


def _pool(op: ops.Pool, run: Run, y: Any) -> Bound:
    """Only the mean rounds: its sum and its quotient."""
    if op.kind is not Pooling.MEAN:
        return np.zeros(())
    x = run.matrix(op.x).astype(np.float64)
    return 2 * gamma(len(x) + 1) * np.abs(x).mean(axis=0, keepdims=True)


def _l2_normalize(op: ops.L2Normalize, run: Run, y: Any) -> Bound:
    """As a norm: the square root halves the error of the sum of squares."""
    return 2 * gamma(ops.tensor(op.x).shape[1] / 2 + 8) * np.abs(y.astype(np.float64))


def _hadamard(op: ops.Hadamard, run: Run, y: Any) -> Bound:
    """Every result is a sum over its block with signs, in two orders; each value passes these many additions."""
    order = op.q * op.r * op.s
    x = np.abs(run.matrix(op.x).astype(np.float64)).reshape(len(y), -1, order)
    steps = op.q + op.r + op.s.bit_length() + 64
    bound = 2 * gamma(steps) * x.sum(axis=2, keepdims=True) / np.sqrt(order)
    return np.asarray(np.broadcast_to(bound, x.shape).reshape(y.shape))


def _silu64(x: F64) -> F64:
    return x / (1 + np.exp(-np.maximum(x, -700)))


def _silu_error(x: F64) -> F64:
    """Of silu itself: exp, the sum, the quotient."""
    return 2 * gamma(EXP + 2) * np.abs(_silu64(x)) + np.abs(x) * FLUSH


def _apart(x: F64, activation: Activation) -> F64:
    """How far two evaluations of f(x) can lie apart."""
    if activation is Activation.SILU:
        return _silu_error(x)
    return 2 * FUNCTION_ERROR[activation](np.abs(x))


def _activate(op: ops.Activate, run: Run, y: Any) -> Bound:
    return _apart(run.matrix(op.x).astype(np.float64), op.activation)


def _cap_error(x: F64, cap: float) -> F64:
    """Of tanh(x / cap) * cap, whose slope is at most 1: the function, and a product of both sides."""
    return cap * (2 * FUNCTION_ERROR[Activation.TANH](np.abs(x / cap)) + 4 * U)


def _soft_cap(op: ops.SoftCap, run: Run, y: Any) -> Bound:
    return _cap_error(run.matrix(op.x).astype(np.float64), op.cap)


def _product_of(gate: F64, up: F64, gate_error: F64, up_error: F64, activation: Activation) -> F64:
    """f(gate) * up, of a gate and an up known up to their errors."""
    function = GATES[activation]
    s = np.abs(arithmetic.activate(gate.astype(np.float32), function).astype(np.float64))
    s_error = SLOPES[function] * gate_error + _apart(gate, function)
    s = s + s_error
    product = s_error * (np.abs(up) + up_error) + s * up_error
    return product + 2 * U * (s + s_error) * (np.abs(up) + up_error)


def _gated(op: ops.Gated, run: Run, y: Any) -> Bound:
    gate, up = (run.matrix(x).astype(np.float64) for x in (op.gate, op.up))
    return _product_of(gate, up, np.zeros(()), np.zeros(()), op.activation)


def _product(op: ops.Linear, run: Run) -> tuple[F64, F64]:
    """The value before the activation and its error.

    Integers whose absolute products sum to at most 2^24 are summed exactly by any engine in float32, and the
    scaling after them has the same roundings on both sides: error 0.
    """
    value = run.values[op.x]
    x = value.codes if isinstance(value, Codes) else value
    blocks = list(run.constants.blocks(op.weight))
    weight = np.concatenate([block.values for block in blocks]).astype(np.float64)
    x = np.asarray(x, np.float64)
    y, size = x @ weight.T, np.abs(x) @ np.abs(weight).T
    exact = isinstance(value, Codes) and size <= 2**24
    scales = np.ones(len(weight))
    if isinstance(op.weight.value, QuantisedSource):
        scales = np.concatenate([block.scale for block in blocks]).astype(np.float64)
    if isinstance(value, Codes):
        scales = scales * value.scale[:, None].astype(np.float64)
    y, size = y * scales, size * np.abs(scales)
    if op.bias is not None:
        bias = run.matrix(op.bias).astype(np.float64)
        y, size = y + bias, size + np.abs(bias)
    return y, np.where(exact, 0.0, 2 * gamma(x.shape[1] + 4) * size)


def _linear(op: ops.Linear, run: Run, result: Any) -> Bound:
    y, error = _product(op, run)
    match op.activation:
        case Activation.NONE:
            pass
        case gated if gated in GATES:
            half = y.shape[1] // 2
            parts = y[:, :half], y[:, half:], error[:, :half], error[:, half:]
            error = _product_of(*parts, gated)
        case function:
            error = SLOPES[function] * error + _apart(y, function)
    if op.residual is None:
        return error
    return error + np.where(error > 0, 2 * U * (np.abs(result) + error), 0.0)


def _rotation(x: F64, op: ops.RoPE | ops.KVWrite | ops.Attention, run: Run) -> tuple[F64, F64]:
    """x[T, H, D] rotated where the op carries tables, and its error."""
    if op.cos is None or op.sin is None:
        return x, np.zeros(x.shape)
    cos, sin = (
        run.matrix(t)[run.positions(len(x))][:, None].astype(np.float64) for t in (op.cos, op.sin)
    )
    half = cos.shape[-1]
    low, high = x[..., :half], x[..., half : 2 * half]
    y, error = x.copy(), np.zeros(x.shape)
    y[..., :half], y[..., half : 2 * half] = low * cos - high * sin, high * cos + low * sin
    error[..., :half] = np.abs(low * cos) + np.abs(high * sin)
    error[..., half : 2 * half] = np.abs(high * cos) + np.abs(low * sin)
    return y, 2 * gamma(2) * error


def _heads(x: Any, heads: int) -> F64:
    return x.reshape(len(x), heads, -1).astype(np.float64)


def _rope(op: ops.RoPE, run: Run, y: Any) -> Bound:
    return _rotation(_heads(run.matrix(op.x), op.heads), op, run)[1].reshape(y.shape)


def _kv_write(op: ops.KVWrite, run: Run, y: Any) -> Bound:
    """Of the rows written in this call, [T, Hkv, D]. Rounding to f16 is monotone: bounds round too."""
    kind: Any = op.type
    x, error = _rotation(_heads(run.matrix(op.x), kind.heads), op, run)
    match kind.scheme:
        case KVScheme.INT8:
            return coded(x, error)
        case KVScheme.INT8_STATIC:
            return fixed(x, error, kind.fixed)
        case KVScheme.F16:
            low, high = ((x + sign * error).astype(np.float32) for sign in (-1, 1))
            return arithmetic.round_f16(high).astype(np.float64) - arithmetic.round_f16(low)
    return error


def _attention(op: ops.Attention, run: Run, y: Any) -> Bound:
    k, v = run.stored(op.k), run.stored(op.v)
    rows, position = len(y), run.state.position
    q, q_error = _rotation(_heads(run.matrix(op.q), op.heads), op, run)
    if k.scales is not None or k.static is not None:
        q, q_error = _coded_values(q, q_error)
    group = op.heads // k.values.shape[1]
    keys, values = (np.repeat(s.dequantised().astype(np.float64), group, axis=1) for s in (k, v))
    terms = q.shape[2] + 10  # products, sums, scaling of both factors, the coding's own products
    s, s_size, s_slip = (
        np.einsum("thd,phd->thp", a, b) * abs(op.scale)
        for a, b in ((q, keys), (np.abs(q), np.abs(keys)), (q_error, np.abs(keys)))
    )
    t, at = np.arange(k.length), position + np.arange(rows)[:, None]
    seen = (t <= at) & (t > at - (op.window or k.length))
    seen = (seen if op.causal else np.ones_like(seen))[:, None, :]
    s_slip = s_slip + 2 * gamma(terms) * s_size
    s = s * np.sign(op.scale)
    if op.cap:
        s, s_slip = op.cap * np.tanh(s / op.cap), s_slip + _cap_error(s, op.cap)
    slip = np.where(seen, s_slip, 0).max(axis=-1)
    s = np.where(seen, s, -np.inf)
    fall = s.max(axis=-1, keepdims=True) - s
    p = np.exp(-fall)
    p /= p.sum(axis=-1, keepdims=True)
    widest = np.where(seen, np.minimum(fall, 90), 0).max(axis=-1)
    # p changes by at most e^(2 slip); s - m is rounded; exp, sum, quotient, products and sums of both sides
    relative = np.expm1(2 * slip + 2 * U * widest) + 4 * gamma(k.length + EXP + 6)
    weight = np.einsum("thp,phd->thd", p, np.abs(values))
    flush = k.length * FLUSH * np.abs(values).max()
    return (relative[..., None] * (1 + gamma(k.length)) * weight + flush).reshape(y.shape)


def _coded_values(x: F64, error: F64) -> tuple[F64, F64]:
    """codes * scale of x, and how far two codings of x +- error can lie apart."""
    codes, scale = arithmetic.quantize(x.astype(np.float32))
    bound = coded(x, error)
    step = scale[..., None].astype(np.float64)
    # x in float32 is one of the sides: rounding it here must not hide a flip
    flips = coded(x, error + U * np.abs(x)).flips
    slip = np.abs(codes) * bound.scale[..., None] + flips * (step + bound.scale[..., None])
    values = codes * step
    return values, slip + gamma(2) * np.abs(values)


BOUNDS: Mapping[type[ops.Op], Callable[[Any, Run, Any], Bound]] = {
    ops.Embedding: _zero,
    ops.PositionEmbedding: _zero,
    ops.RMSNorm: _rms_norm,
    ops.RMSNormQuantize: _rms_norm_quantize,
    ops.HeadNorm: _head_norm,
    ops.LayerNorm: _layer_norm,
    ops.LayerNormQuantize: _layer_norm_quantize,
    ops.Quantize: _coded_exactly,
    ops.Linear: _linear,
    ops.Add: _zero,
    ops.Mul: _zero,
    ops.Activate: _activate,
    ops.Gated: _gated,
    ops.Scale: _zero,
    ops.SoftCap: _soft_cap,
    ops.Slice: _zero,
    ops.RoPE: _rope,
    ops.KVWrite: _kv_write,
    ops.Attention: _attention,
    ops.LastRows: _zero,
    ops.Pool: _pool,
    ops.L2Normalize: _l2_normalize,
    ops.Hadamard: _hadamard,
}
