"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, q/k/v as one linear, weights stored transposed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from hearth.compiler.frontend.activations import read_activation
from hearth.compiler.frontend.blueprint import (
    Blueprint,
    Request,
    Sources,
    Weights,
    choose_context,
    floats,
)
from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.sources import Panel, RowRange, Transposed
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Activate,
    Add,
    Attention,
    Cache,
    Constant,
    Embedding,
    KVWrite,
    LayerNorm,
    Linear,
    Op,
    Position,
    PositionEmbedding,
    Slice,
    Tokens,
)
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import Activation, KVKind, KVScheme
from hearth.schemas.manifest import Dims, ModelKind

PREFIX, HEAD = "transformer.", "lm_head.weight"  # the published files leave the prefix out
TIED_HINT = "if the model shares its embeddings, set tie_word_embeddings to true in config.json"


@dataclass(frozen=True)
class Gpt2Config:
    """`scales` are those of the attention scores, layer by layer."""

    dims: Dims
    positions: int
    context: int
    activation: Activation
    eps: float
    tied: bool
    scaled: bool
    by_layer: bool

    def scale(self, layer: int) -> float:
        """What the attention scores of a layer are multiplied with."""
        scale = self.dims.head_dim**-0.5 if self.scaled else 1.0
        return float(np.float32(scale / (layer + 1) if self.by_layer else scale))


def read_gpt2(fields: Fields, context: int | None) -> Gpt2Config:
    """The typed config, with GPT2Config's defaults where it has some."""
    hidden, heads = fields.integer("n_embd", 768), fields.integer("n_head", 12)
    if hidden % heads:
        raise fields.invalid("n_head", f"a divisor of n_embd = {hidden}")
    positions = fields.integer("n_positions", 1024)
    dims = Dims(
        layers=fields.integer("n_layer", 12),
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=fields.optional_integer("n_inner") or 4 * hidden,
        vocab=fields.integer("vocab_size", 50257),
    )
    return Gpt2Config(
        dims=dims,
        positions=positions,
        context=choose_context(context, positions, positions, fields.where),
        activation=read_activation(fields, "activation_function", "gelu_new"),
        eps=fields.number("layer_norm_epsilon", 1e-5),
        tied=fields.flag("tie_word_embeddings", True),
        scaled=fields.flag("scale_attn_weights", True),
        by_layer=fields.flag("scale_attn_by_inverse_layer_idx", False),
    )


@dataclass(frozen=True)
class Gpt2Family:
    """The only family of this block."""

    model_type: str = "gpt2"
    architectures: tuple[str, ...] = ("GPT2LMHeadModel",)
    bodies: tuple[str, ...] = ()

    def blueprint(self, fields: Fields, request: Request) -> Blueprint:
        """The config's tensors and graph."""
        config = read_gpt2(fields, request.context)
        return Blueprint(
            kind=ModelKind.DECODER,
            dims=config.dims,
            context=config.context,
            shapes=partial(_shapes, config),
            build=partial(_build, config, request.kv),
            beginnings={PREFIX: ""},
            ignored=("h.*.attn.bias", "h.*.attn.masked_bias"),  # causal masks of old files
            repeats={HEAD: "wte.weight"} if config.tied else {},
            hints={HEAD: TIED_HINT},
        )


GPT2 = Gpt2Family()


def _shapes(config: Gpt2Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, ffn = config.dims.hidden, config.dims.ffn
    yield "wte.weight", (config.dims.vocab, hidden)
    yield "wpe.weight", (config.positions, hidden)
    for layer in range(config.dims.layers):
        at = f"h.{layer}"
        for norm in ("ln_1", "ln_2"):
            yield f"{at}.{norm}.weight", (hidden,)
            yield f"{at}.{norm}.bias", (hidden,)
        for linear, k, n in (
            ("attn.c_attn", hidden, 3 * hidden),
            ("attn.c_proj", hidden, hidden),
            ("mlp.c_fc", hidden, ffn),
            ("mlp.c_proj", ffn, hidden),
        ):
            yield f"{at}.{linear}.weight", (k, n)
            yield f"{at}.{linear}.bias", (n,)
    yield "ln_f.weight", (hidden,)
    yield "ln_f.bias", (hidden,)
    if not config.tied:
        yield HEAD, (config.dims.vocab, hidden)


@dataclass(frozen=True)
class _Builder:
    """What every layer shares."""

    config: Gpt2Config
    kv: KVScheme
    sources: Sources
    position: Position
    panel: Panel

    def constant(self, name: str) -> Constant:
        return Constant(PREFIX + name, self.sources(name))

    def norm(self, x: Op, name: str) -> Op:
        affine = self.constant(f"{name}.weight"), self.constant(f"{name}.bias")
        return LayerNorm(x, *affine, self.config.eps)

    def linear(self, x: Op, name: str) -> Op:
        """x @ w + b, w[K, N] as Conv1D stores it."""
        stored = self.sources(f"{name}.weight")
        weight = Constant(f"{PREFIX}{name}.weight", Transposed(stored, self.panel))
        return Add(Linear(x, weight), self.constant(f"{name}.bias"))

    def write(self, x: Op, layer: int, kind: KVKind) -> Op:
        dims = self.config.dims
        cache = CacheType(layer, kind, dims.heads, dims.head_dim, self.config.context, self.kv)
        return KVWrite(Cache(cache), x, self.position)

    def attention(self, x: Op, layer: int) -> tuple[Op, Op, Op]:
        """(y[T, E], K cache, V cache)."""
        at, width, dims = f"h.{layer}", self.config.dims.hidden, self.config.dims
        merged = self.linear(self.norm(x, f"{at}.ln_1"), f"{at}.attn.c_attn")
        q, k, v = (Slice(merged, part * width, (part + 1) * width) for part in range(3))
        keys, values = self.write(k, layer, KVKind.K), self.write(v, layer, KVKind.V)
        scale = self.config.scale(layer)
        y = Attention(q, keys, values, self.position, heads=dims.heads, scale=scale)
        return Add(x, self.linear(y, f"{at}.attn.c_proj")), keys, values

    def ffn(self, x: Op, layer: int) -> Op:
        at = f"h.{layer}"
        h = self.linear(self.norm(x, f"{at}.ln_2"), f"{at}.mlp.c_fc")
        return Add(x, self.linear(Activate(h, self.config.activation), f"{at}.mlp.c_proj"))


def _build(config: Gpt2Config, kv: KVScheme, weights: Weights) -> Graph:
    """main: tokens[T] -> (logits[T, V], k0, v0, k1, v1, ...)."""
    sources = floats(weights)
    b = _Builder(config, kv, sources, Position(), Panel())
    table = b.constant("wte.weight")
    rows = RowRange(sources("wpe.weight"), 0, config.context)
    positions = Constant(f"{PREFIX}wpe.weight", rows)
    x: Op = Add(Embedding(table, Tokens()), PositionEmbedding(positions, b.position))
    caches: list[Op] = []
    for layer in range(config.dims.layers):
        x, keys, values = b.attention(x, layer)
        caches += [keys, values]
        x = b.ffn(x, layer)
    head = table if config.tied else Constant(HEAD, sources(HEAD))
    return Graph({"main": (Linear(b.norm(x, "ln_f"), head), *caches)})
