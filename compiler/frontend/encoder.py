"""The unfused graph of a text encoder with norms after its blocks: entries `main` (the vector) and `hidden`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hearth.compiler.frontend.blueprint import Request, Sources, Weights, floats
from hearth.compiler.frontend.sentence import POOLINGS, Sentence
from hearth.compiler.frontend.sources import RowRange
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Activate,
    Add,
    Attention,
    Cache,
    Constant,
    KVWrite,
    L2Normalize,
    LayerNorm,
    Linear,
    Op,
    Pool,
    Position,
    PositionEmbedding,
    Tokens,
)
from hearth.compiler.ir.ops import Embedding as Embed
from hearth.compiler.ir.tensors import ArraySource
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import Activation, KVKind, KVScheme
from hearth.schemas.manifest import Dims

UNIT_EPS = 1e-12  # of torch.nn.functional.normalize


@dataclass(frozen=True)
class EncoderConfig:
    """`positions` rows of the table, of which a text's first token takes `first_position`; `types` 0: no such table."""

    dims: Dims
    positions: int
    first_position: int
    context: int
    types: int
    activation: Activation
    eps: float


@dataclass(frozen=True)
class EncoderNames:
    """What the tensors are called, BERT's names being the defaults; those from `q` on lie below `layer`."""

    words: str = "embeddings.word_embeddings"
    positions: str = "embeddings.position_embeddings"
    types: str = "embeddings.token_type_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"
    layer: str = "encoder.layer.{layer}"
    q: str = "attention.self.query"
    k: str = "attention.self.key"
    v: str = "attention.self.value"
    o: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    ffn_norm: str = "output.LayerNorm"


BERT_NAMES = EncoderNames()


def shapes(config: EncoderConfig, names: EncoderNames) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor that the graph reads, with its shape as stored."""
    hidden, ffn = config.dims.hidden, config.dims.ffn
    yield f"{names.words}.weight", (config.dims.vocab, hidden)
    yield f"{names.positions}.weight", (config.positions, hidden)
    if config.types:
        yield f"{names.types}.weight", (config.types, hidden)
    yield from _affine(names.embedding_norm, hidden)
    for layer in range(config.dims.layers):
        at = names.layer.format(layer=layer)
        for name in (names.q, names.k, names.v, names.o):
            yield from _affine(f"{at}.{name}", hidden, hidden)
        yield from _affine(f"{at}.{names.attention_norm}", hidden)
        yield from _affine(f"{at}.{names.up}", ffn, hidden)
        yield from _affine(f"{at}.{names.down}", hidden, ffn)
        yield from _affine(f"{at}.{names.ffn_norm}", hidden)


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


@dataclass(frozen=True)
class _Builder:
    """What every layer shares."""

    config: EncoderConfig
    names: EncoderNames
    kv: KVScheme
    sources: Sources
    position: Position

    def constant(self, name: str) -> Constant:
        return Constant(name, self.sources(name))

    def norm(self, x: Op, name: str) -> Op:
        affine = self.constant(f"{name}.weight"), self.constant(f"{name}.bias")
        return LayerNorm(x, *affine, self.config.eps)

    def linear(self, x: Op, name: str) -> Op:
        return Add(Linear(x, self.constant(f"{name}.weight")), self.constant(f"{name}.bias"))

    def write(self, x: Op, layer: int, kind: KVKind) -> Op:
        dims, context = self.config.dims, self.config.context
        cache = CacheType(layer, kind, dims.heads, dims.head_dim, context, self.kv)
        return KVWrite(Cache(cache), x, self.position)

    def embedded(self) -> Op:
        """The sum of words, types and positions, normalised."""
        config, names = self.config, self.names
        x: Op = Embed(self.constant(f"{names.words}.weight"), Tokens())
        if config.types > 1:
            table = self.constant(f"{names.types}.weight")
            x = Add(x, Embed(table, Tokens(port="types")))
        elif config.types == 1:  # one row, the same for all
            name = f"{names.types}.weight"
            x = Add(x, Constant(name, ArraySource(self.sources(name).rows(0, 1)[0])))
        start = config.first_position
        table_rows = self.sources(f"{names.positions}.weight")
        rows = RowRange(table_rows, start, start + config.context)
        x = Add(x, PositionEmbedding(Constant(f"{names.positions}.weight", rows), self.position))
        return self.norm(x, names.embedding_norm)

    def layer(self, x: Op, layer: int) -> tuple[Op, Op, Op]:
        """(y[T, E], K cache, V cache)."""
        names, dims = self.names, self.config.dims
        at = names.layer.format(layer=layer)
        q, k, v = (self.linear(x, f"{at}.{name}") for name in (names.q, names.k, names.v))
        keys, values = self.write(k, layer, KVKind.K), self.write(v, layer, KVKind.V)
        y: Op = Attention(
            q,
            keys,
            values,
            self.position,
            heads=dims.heads,
            scale=float(np.float32(dims.head_dim**-0.5)),
            causal=False,
        )
        x = self.norm(Add(x, self.linear(y, f"{at}.{names.o}")), f"{at}.{names.attention_norm}")
        y = Activate(self.linear(x, f"{at}.{names.up}"), self.config.activation)
        y = self.norm(Add(x, self.linear(y, f"{at}.{names.down}")), f"{at}.{names.ffn_norm}")
        return y, keys, values


def build(config: EncoderConfig, names: EncoderNames, request: Request, weights: Weights) -> Graph:
    """main: tokens[T] (, types[T]) -> embedding[1, E]; hidden: -> hidden[T, E]; both write the caches they read."""
    b = _Builder(config, names, request.kv, floats(weights), Position())
    x, caches = b.embedded(), []
    for layer in range(config.dims.layers):
        x, keys, values = b.layer(x, layer)
        caches += [keys, values]
    return vector_entries(x, caches, request.sentence)


def vector_entries(x: Op, caches: Sequence[Op], sentence: Sentence) -> Graph:
    """The entries of what makes vectors, of its last rows x[T, E] and the caches it wrote."""
    entries = {"main": (sentence_vector(x, sentence), *caches), "hidden": (x, *caches)}
    return Graph(entries, {"main": ("embedding",), "hidden": ("hidden",)})


def sentence_vector(x: Op, sentence: Sentence) -> Op:
    """The vector of a text from its rows x[T, E]; without pooling, a vector per row."""
    kind = POOLINGS[sentence.pooling]
    y = x if kind is None else Pool(x, kind)
    return L2Normalize(y, UNIT_EPS) if sentence.normalised else y
