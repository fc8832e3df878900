"""How the ops with positions and caches are written in ONNX: RotaryEmbedding, Attention with past."""

from __future__ import annotations

import numpy as np
import onnx

from hearth.compiler.ir import ops
from hearth.compiler.ir.arithmetic import TINY
from hearth.compiler.ir.to_onnx.builder import Builder
from hearth.compiler.ir.to_onnx.values import Cached, Coded, Value
from hearth.compiler.ir.types import MOST_CODE, CacheType, Static
from hearth.schemas.commands import KVScheme

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def coded(x: str, static: Static | None, b: Builder) -> Coded:
    """Codes and scale of the last axis, by the very operations of the definition."""
    if static is None:
        return _dynamic(x, b)
    scale = b.array(np.full((1, 1), static.scale, np.float32))
    return Coded(_static_codes(x, static, b), scale)


def _dynamic(x: str, b: Builder) -> Coded:
    a = b.node("ReduceMax", b.node("Abs", x), b.i64(-1), keepdims=1)
    dead = b.node("Less", a, b.array(np.array(TINY, np.float32)))
    zero = b.f32(0.0)
    step = b.node("Div", b.f32(127.0), b.node("Where", dead, b.f32(1.0), a))
    codes = b.node("Where", dead, zero, b.node("Round", b.node("Mul", x, step)))
    scale = b.node("Where", dead, zero, b.node("Div", a, b.f32(127.0)))
    return Coded(codes, scale)


def _static_codes(x: str, static: Static, b: Builder) -> str:
    low, high = (b.f32(edge - static.zero) for edge in (-MOST_CODE, MOST_CODE))
    steps = b.node("Clip", b.node("Mul", x, b.f32(float(static.inverse))), low, high)
    return b.node("Add", b.node("Round", steps), b.f32(static.zero))


def cache(op: ops.Cache, b: Builder) -> Value:
    kind = op.cache
    name = f"past.{kind.kind.name.lower()}.{kind.layer}"
    return Cached(b.input(name, FLOAT, [1, kind.heads, "P", kind.head_dim]))


def positions(position: ops.Op, b: Builder) -> str:
    """Absolute positions i64[T] of this call's rows."""
    made = b.once("positions")
    if made is None:
        with b.within("positions"):
            made = b.node("Range", b.plain(position), _stop(position, b), b.scalar(1))
        b.once("positions", made)
    return made


def _stop(position: ops.Op, b: Builder) -> str:
    """The position after this call's last row."""
    return b.node("Add", b.plain(position), b.call_rows())


def _mask(position: ops.Op, window: int, b: Builder) -> str:
    """bool[T, P + T]: what each row sees."""
    key = ("mask", window)
    made = b.once(key)
    if made is None:
        rows = b.node("Unsqueeze", positions(position, b), b.i64(1))
        with b.within("mask"):
            columns = b.node("Range", b.scalar(0), _stop(position, b), b.scalar(1))
            made = b.node("LessOrEqual", columns, rows)
            if window:
                before = b.node("Sub", rows, b.scalar(window))
                made = b.node("And", made, b.node("Greater", columns, before))
        b.once(key, made)
    return made


def _rotate(x: str, op: ops.RoPE | ops.KVWrite | ops.Attention, heads: int, b: Builder) -> str:
    """x[1, T, H * D] rotated, where the op carries tables."""
    if op.cos is None or op.sin is None:
        return x
    half = ops.tensor(op.cos).shape[1]
    ids = b.once("position_ids")
    if ids is None:
        ids = b.node("Unsqueeze", positions(op.position, b), b.i64(0))
        b.once("position_ids", ids)
    return b.node(
        "RotaryEmbedding",
        x,
        b.plain(op.cos),
        b.plain(op.sin),
        ids,
        num_heads=heads,
        rotary_embedding_dim=2 * int(half),
    )


def _batched(x: str, b: Builder) -> str:
    return b.node("Unsqueeze", x, b.i64(0))


def _flat(x: str, b: Builder) -> str:
    return b.node("Squeeze", x, b.i64(0))


def rope(op: ops.RoPE, b: Builder) -> Value:
    return _flat(_rotate(_batched(b.plain(op.x), b), op, op.heads, b), b)


def _per_head(x: str, heads: int, head_dim: int, b: Builder) -> tuple[str, Coded]:
    """x[1, T, H * D] as int8 codes times scale, per token and head; the product and its parts."""
    parts = _dynamic(b.node("Reshape", x, b.i64(1, -1, heads, head_dim)), b)
    back = b.node("Mul", parts.codes, parts.scale)
    return b.node("Reshape", back, b.i64(1, -1, heads * head_dim)), parts


def kv_write(op: ops.KVWrite, b: Builder) -> Value:
    """The rows as reading the cache will give them back."""
    kind, past = _cache_type(op), b.cached(op.cache).past
    rows = _rotate(_batched(b.plain(op.x), b), op, kind.heads, b)
    match kind.scheme:
        case KVScheme.F32:
            return Cached(past, rows)
        case KVScheme.F16:
            return Cached(past, b.node("Cast", b.node("Cast", rows, to=FLOAT16), to=FLOAT))
        case KVScheme.INT8:
            return Cached(past, *_per_head(rows, kind.heads, kind.head_dim, b))
        case KVScheme.INT8_STATIC:
            parts = coded(rows, kind.fixed, b)
            steps = b.node("Sub", parts.codes, b.f32(kind.fixed.zero))
            return Cached(past, b.node("Mul", steps, parts.scale), parts)


def _cache_type(op: ops.Op) -> CacheType:
    if not isinstance(op.type, CacheType):
        raise TypeError(f"{type(op).__name__} made {op.type}, expected a cache")
    return op.type


def attention(op: ops.Attention, b: Builder) -> Value:
    kind, k, v = _cache_type(op.k), b.cached(op.k), b.cached(op.v)
    q = _rotate(_batched(b.plain(op.q), b), op, op.heads, b)
    if kind.scheme in (KVScheme.INT8, KVScheme.INT8_STATIC):
        q, _ = _per_head(q, op.heads, kind.head_dim, b)
    mask = _mask(op.position, op.window, b) if op.causal else ""
    inputs = (q, k.rows, v.rows, mask, k.past, v.past)
    sizes = {"q_num_heads": op.heads, "kv_num_heads": kind.heads}
    caps = {"softcap": op.cap} if op.cap else {}
    scores = {"scale": op.scale, **caps}
    y, present_k, present_v = b.nodes_out("Attention", inputs, 3, **scores, **sizes)
    b.attended(k, present_k)
    b.attended(v, present_v)
    return _flat(y, b)
