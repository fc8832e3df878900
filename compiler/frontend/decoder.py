"""The unfused graph of a decoder-only transformer: one entry `main`, every step its own op."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hearth.compiler.frontend.blueprint import Request, Weights
from hearth.compiler.frontend.config import ModelConfig
from hearth.compiler.frontend.encoder import vector_entries
from hearth.compiler.frontend.rope import rope_tables
from hearth.compiler.frontend.rope_config import RopeConfig
from hearth.compiler.frontend.rotary_names import MERGED, Names, Part, norm_bias
from hearth.compiler.frontend.sources import FromOne
from hearth.compiler.ir.arithmetic import round_f16
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
    LayerNorm,
    Linear,
    Mul,
    Op,
    Position,
    RMSNorm,
    RoPE,
    Scale,
    Slice,
    SoftCap,
    Tokens,
    tensor,
)
from hearth.compiler.ir.tensors import Source, round_bf16
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.dtypes import DType

Tables = tuple[Constant, Constant]  # cos and sin


@dataclass(frozen=True)
class Decoder:
    """What every layer shares; layers with a window turn by the local tables."""

    config: ModelConfig
    names: Names
    kv: KVScheme
    sources: Weights
    position: Position
    tables: Tables
    local_tables: Tables

    def constant(self, name: str) -> Constant:
        return Constant(name, self.sources(name))

    def gain(self, name: str) -> Constant:
        """A norm's gain, which some families store as what it is more than 1."""
        stored = self.constant(name)
        match stored.value:
            case Source() as value if self.config.gains_from_one:
                return Constant(name, FromOne(value))
        return stored

    def norm(self, x: Op, gain: str) -> Op:
        if self.config.layer_norms:
            bias = self.constant(norm_bias(gain))
            return LayerNorm(x, self.gain(gain), bias, self.config.norm_eps)
        return RMSNorm(x, self.gain(gain), self.config.norm_eps)

    def linear(self, x: Op, part: Part, layer: int) -> Op:
        """x @ w^T (+ bias) of one part of a layer."""
        prefix = self.names.linear(part, layer)
        y = Linear(x, self.constant(f"{prefix}.weight"))
        return Add(y, self.constant(f"{prefix}.bias")) if part in self.config.biased else y

    def parts(self, x: Op, merged: Part, layer: int) -> tuple[Op, ...]:
        """What several linears make of x, be they stored as one or each by itself."""
        if merged not in self.names.linears:
            return tuple(self.linear(x, part, layer) for part in MERGED[merged])
        rows, slices, start = self.linear(x, merged, layer), [], 0
        for part in MERGED[merged]:
            stop = start + self.config.linear_shape(part)[0]
            slices.append(Slice(rows, start, stop))
            start = stop
        return tuple(slices)

    def turned(self, x: Op, heads: int, gain: str, layer: int) -> Op:
        """Queries or keys at their positions; normalised first where the family does so."""
        if self.config.head_norms:
            x = HeadNorm(x, self.gain(gain.format(layer=layer)), self.config.norm_eps, heads)
        tables = self.local_tables if self.config.windows[layer] else self.tables
        return RoPE(x, *tables, self.position, heads)

    def added(self, x: Op, y: Op, post_norm: str, layer: int) -> Op:
        """The residual stream with what a block gives, normalised first where the family does so."""
        return Add(x, self.norm(y, post_norm.format(layer=layer)) if post_norm else y)

    def write(self, x: Op, layer: int, kind: KVKind) -> Op:
        """The layer's cache with this call's keys or values stored."""
        config = self.config
        cache = CacheType(layer, kind, config.kv_heads, config.head_dim, config.context, self.kv)
        return KVWrite(Cache(cache), x, self.position)


def _attention(decoder: Decoder, h: Op, layer: int) -> tuple[Op, Op, Op]:
    """(what is added to the rows, K cache, V cache) of normalised rows h[T, E]."""
    config, names, window = decoder.config, decoder.names, decoder.config.windows[layer]
    q, k, v = decoder.parts(h, Part.QKV, layer)
    q = decoder.turned(q, config.heads, names.query_norm, layer)
    k = decoder.turned(k, config.kv_heads, names.key_norm, layer)
    keys = decoder.write(k, layer, KVKind.K)
    values = decoder.write(v, layer, KVKind.V)
    attended = Attention(
        q,
        keys,
        values,
        decoder.position,
        heads=config.heads,
        scale=config.scale,
        window=window if window < config.context else 0,
        causal=config.causal,
        cap=config.score_cap,
    )
    return decoder.linear(attended, Part.O, layer), keys, values


def _ffn(decoder: Decoder, h: Op, layer: int) -> Op:
    """What is added to the rows, of normalised rows h[T, E]."""
    activation = decoder.config.activation
    if decoder.names.gated:
        gate, up = decoder.parts(h, Part.GATE_UP, layer)
        wide: Op = Mul(Activate(gate, activation), up)
    else:
        wide = Activate(decoder.linear(h, Part.UP, layer), activation)
    return decoder.linear(wide, Part.DOWN, layer)


def _layer(decoder: Decoder, x: Op, layer: int) -> tuple[Op, Op, Op]:
    """(y[T, E], K cache, V cache): attention and feed-forward after each other, or both of one norm."""
    names = decoder.names
    h = decoder.norm(x, names.attention_norm.format(layer=layer))
    attended, keys, values = _attention(decoder, h, layer)
    x = decoder.added(x, attended, names.attention_post_norm, layer)
    if names.ffn_norm:
        h = decoder.norm(x, names.ffn_norm.format(layer=layer))
    x = decoder.added(x, _ffn(decoder, h, layer), names.ffn_post_norm, layer)
    return x, keys, values


def _rounded_as(table: Constant, value: float) -> float:
    """In the type that the table is stored in, as transformers does where it multiplies the table's rows."""
    rounded = np.array([value], np.float32)
    match tensor(table).dtype:
        case DType.F16:
            rounded = round_f16(rounded)
        case DType.BF16:
            rounded = round_bf16(rounded)
    return float(rounded[0])


def _tables(name: str, rope: RopeConfig, config: ModelConfig) -> Tables:
    cos, sin = rope_tables(rope, config.context, config.head_dim)
    return Constant(f"{name}.cos", cos), Constant(f"{name}.sin", sin)


@dataclass(frozen=True)
class Body:
    """What a head reads: rows[T, E] after the last norm; the caches written, and the table of the embeddings."""

    rows: Op
    caches: tuple[Op, ...]
    table: Constant


def _body(config: ModelConfig, names: Names, kv: KVScheme, sources: Weights) -> Body:
    tables = _tables("rope", config.rope, config)
    local = (
        tables if config.local_rope is None else _tables("rope.local", config.local_rope, config)
    )
    decoder = Decoder(config, names, kv, sources, Position(), tables, local)
    table = decoder.constant(names.embedding)
    x: Op = Embedding(table, Tokens())
    if config.scaled_embeddings:
        x = Scale(x, _rounded_as(table, math.sqrt(config.hidden)))
    caches: list[Op] = []
    for layer in range(config.layers):
        x, keys, values = _layer(decoder, x, layer)
        caches += [keys, values]
    return Body(decoder.norm(x, names.final_norm), tuple(caches), table)


def build(config: ModelConfig, names: Names, request: Request, sources: Weights) -> Graph:
    """main: tokens[T] -> (logits[T, V], k0, v0, k1, v1, ...)."""
    body = _body(config, names, request.kv, sources)
    head = body.table if config.tied else Constant(names.head, sources(names.head))
    logits: Op = Linear(body.rows, head)
    if names.head_bias:
        logits = Add(logits, Constant(names.head_bias, sources(names.head_bias)))
    logits = SoftCap(logits, config.logit_cap) if config.logit_cap else logits
    return Graph({"main": (logits, *body.caches)})


def build_vectors(config: ModelConfig, names: Names, request: Request, sources: Weights) -> Graph:
    """As an encoder's, of a decoder without a head: main: tokens[T] -> embedding[1, E]; hidden: -> hidden[T, E]."""
    body = _body(config, names, request.kv, sources)
    return vector_entries(body.rows, body.caches, request.sentence)
