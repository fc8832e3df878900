"""Tiny graphs with random constants: a decoder in the frontend's unfused form, and single weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Activate,
    Add,
    Attention,
    Cache,
    Constant,
    Embedding,
    HeadNorm,
    KVWrite,
    Linear,
    Mul,
    Op,
    Position,
    RMSNorm,
    RoPE,
    Tokens,
)
from hearth.compiler.ir.tensors import ArraySource, GroupedRows, QuantisedRows, round_bf16
from hearth.compiler.ir.types import CacheType
from hearth.compiler.transform.hadamard import dense
from hearth.schemas.commands import Activation, KVKind, KVScheme

F32 = NDArray[np.float32]
MEASURELESS = (KVScheme.F32, KVScheme.F16, KVScheme.INT8)  # KV schemes that need no calibration


@dataclass(frozen=True)
class Tiny:
    """The shape of a tiny decoder; the defaults have odd sizes, GQA and partial reuse of tables."""

    layers: int = 2
    hidden: int = 24
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    ffn: int = 36
    vocab: int = 53
    context: int = 40
    tied: bool = True
    bias: bool = False
    window: int = 0
    head_norms: bool = False
    rotary: int | None = None  # rotated dims of a head; None: all
    kv: KVScheme = KVScheme.F32
    eps: float = 1e-5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class CodedSource:
    """A QuantisedSource over given codes."""

    all_rows: QuantisedRows
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.all_rows.codes.shape)

    @property
    def group(self) -> int:
        return self.all_rows.group

    @property
    def tabled(self) -> bool:
        return self.all_rows.table is not None

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        rows, part = self.all_rows, slice(start, stop)
        multipliers = None if rows.multipliers is None else rows.multipliers[part]
        return QuantisedRows(
            rows.codes[part], multipliers, rows.scale[part], rows.group, rows.table
        )


@dataclass(frozen=True, eq=False)
class GivenGroups:
    """A GroupedSource over given codes."""

    all_rows: GroupedRows
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.all_rows.codes.shape)

    @property
    def group(self) -> int:
        return self.all_rows.group

    def grouped(self, start: int, stop: int) -> GroupedRows:
        rows, part = self.all_rows, slice(start, stop)
        return GroupedRows(rows.codes[part], rows.scales[part], rows.zeros[part], rows.group)


class Draw:
    """Named random constants from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def array(self, *shape: int, spread: float = 1.0) -> F32:
        return (self.rng.standard_normal(shape) * spread).astype(np.float32)

    def constant(self, name: str, *shape: int, spread: float = 1.0, mean: float = 0.0) -> Constant:
        values = self.array(*shape, spread=spread) + np.float32(mean)
        return Constant(name, ArraySource(values))

    def weight(self, name: str, n: int, k: int) -> Constant:
        """A matrix that keeps the size of what it multiplies."""
        return self.constant(name, n, k, spread=k**-0.5)

    def coded(self, name: str, n: int, k: int, bits: int, group: int = 0) -> Constant:
        """A quantised weight with random codes, extremes included."""
        top = 8 if bits == 4 else 127
        low = -8 if bits == 4 else -127
        codes = self.rng.integers(low, top, (n, k), dtype=np.int8, endpoint=bits == 8)
        multipliers = None
        if group:
            multipliers = self.rng.integers(-15, 16, (n, -(-k // group)), dtype=np.int8)
        scale = (self.rng.uniform(0.5, 2.0, n) * k**-0.5 / 60).astype(np.float32)
        return Constant(name, CodedSource(QuantisedRows(codes, multipliers, scale, group), bits))

    def tabled(self, name: str, n: int, k: int, bits: int, group: int) -> Constant:
        """A weight with a table of random levels, ascending, both ends of int8 among them."""
        codes = self.rng.integers(0, 1 << bits, (n, k), dtype=np.int8)
        table = np.sort(self.rng.choice(np.arange(-127, 127), 1 << bits, False)).astype(np.int8)
        table[0], table[-1] = -128, 127
        multipliers = self.rng.integers(-127, 128, (n, -(-k // group)), dtype=np.int8)
        scale = round_bf16((self.rng.uniform(0.5, 2.0, n) * k**-0.5 / 60).astype(np.float32))
        rows = QuantisedRows(codes, multipliers, scale, group, table)
        return Constant(name, CodedSource(rows, bits))

    def grouped(self, name: str, n: int, k: int, bits: int, group: int) -> Constant:
        """A weight with float scales and zero points per group."""
        top, groups = 1 << bits, -(-k // group)
        codes = self.rng.integers(0, top, (n, k), dtype=np.uint8)
        zeros = self.rng.integers(0, top, (n, groups), dtype=np.uint8)
        scales = (self.rng.uniform(0.5, 2.0, (n, groups)) * k**-0.5 / top).astype(np.float32)
        return Constant(name, GivenGroups(GroupedRows(codes, scales, zeros, group), bits))


def hadamard_signs(*orders: int) -> Constant | None:
    """The signs of a Hadamard's dense factors, as the op wants them."""
    parts = [dense(order).T.reshape(-1) for order in orders if order > 1]
    return (
        Constant("signs", ArraySource(np.concatenate(parts).astype(np.float32))) if parts else None
    )


def tables(context: int, rotary: int, theta: float = 10000.0) -> tuple[Constant, Constant]:
    """RoPE tables f32[S, rotary / 2]."""
    frequencies = theta ** (-np.arange(0, rotary, 2) / rotary)
    angles = np.arange(context)[:, None] * frequencies
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return Constant("rope.cos", ArraySource(cos)), Constant("rope.sin", ArraySource(sin))


def decoder(tiny: Tiny | None = None) -> Graph:
    """One entry `main`, every op in the form that the frontend makes."""
    tiny = tiny or Tiny()
    draw = Draw(tiny.seed)
    tokens, position = Tokens(), Position()
    cos_sin = tables(tiny.context, tiny.rotary or tiny.head_dim)
    embedding = draw.constant("model.embed_tokens.weight", tiny.vocab, tiny.hidden)
    x: Op = Embedding(embedding, tokens)
    caches: list[Op] = []
    for layer in range(tiny.layers):
        x, k, v = _layer(tiny, draw, layer, x, position, cos_sin)
        caches += [k, v]
    x = _norm(tiny, draw, "model.norm.weight", x)
    head = embedding if tiny.tied else draw.weight("lm_head.weight", tiny.vocab, tiny.hidden)
    return Graph({"main": (Linear(x, head), *caches)})


def _norm(tiny: Tiny, draw: Draw, name: str, x: Op) -> Op:
    return RMSNorm(x, draw.constant(name, tiny.hidden, spread=0.3, mean=1.0), tiny.eps)


def _head_norm(tiny: Tiny, draw: Draw, name: str, x: Op, heads: int) -> Op:
    gain = draw.constant(name, tiny.head_dim, spread=0.3, mean=1.0)
    return HeadNorm(x, gain, tiny.eps, heads)


def _layer(
    tiny: Tiny, draw: Draw, layer: int, x: Op, position: Op, cos_sin: tuple[Op, Op]
) -> tuple[Op, Op, Op]:
    at = f"model.layers.{layer}."
    width, kv_width = tiny.heads * tiny.head_dim, tiny.kv_heads * tiny.head_dim

    def linear(x: Op, name: str, n: int, k: int, bias: bool = False) -> Op:
        y = Linear(x, draw.weight(f"{at}{name}.weight", n, k))
        return Add(y, draw.constant(f"{at}{name}.bias", n, spread=0.2)) if bias else y

    def write(kind: KVKind, rows: Op) -> Op:
        cache = CacheType(layer, kind, tiny.kv_heads, tiny.head_dim, tiny.context, tiny.kv)
        return KVWrite(Cache(cache), rows, position)

    h = _norm(tiny, draw, f"{at}input_layernorm.weight", x)
    q = linear(h, "self_attn.q_proj", width, tiny.hidden, tiny.bias)
    k = linear(h, "self_attn.k_proj", kv_width, tiny.hidden, tiny.bias)
    v = linear(h, "self_attn.v_proj", kv_width, tiny.hidden, tiny.bias)
    if tiny.head_norms:
        q = _head_norm(tiny, draw, f"{at}self_attn.q_norm.weight", q, tiny.heads)
        k = _head_norm(tiny, draw, f"{at}self_attn.k_norm.weight", k, tiny.kv_heads)
    k_cache = write(KVKind.K, RoPE(k, *cos_sin, position, tiny.kv_heads))
    v_cache = write(KVKind.V, v)
    rotated = RoPE(q, *cos_sin, position, tiny.heads)
    scale = tiny.head_dim**-0.5
    y = Attention(rotated, k_cache, v_cache, position, tiny.heads, scale, tiny.window)
    x = Add(x, linear(y, "self_attn.o_proj", tiny.hidden, width))
    h = _norm(tiny, draw, f"{at}post_attention_layernorm.weight", x)
    gate = linear(h, "mlp.gate_proj", tiny.ffn, tiny.hidden)
    up = linear(h, "mlp.up_proj", tiny.ffn, tiny.hidden)
    gated = Mul(Activate(gate, Activation.SILU), up)
    x = Add(x, linear(gated, "mlp.down_proj", tiny.hidden, tiny.ffn))
    return x, k_cache, v_cache
