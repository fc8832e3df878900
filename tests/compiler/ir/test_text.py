"""The text dump: a golden for a tiny graph, stable, and telling every field that is not a default."""

from __future__ import annotations

from support.graphs import Draw, Tiny, decoder, tables

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Attention,
    Cache,
    Embedding,
    Input,
    KVWrite,
    L2Normalize,
    LastRows,
    Linear,
    Position,
    Quantize,
    RMSNormQuantize,
    Tokens,
)
from hearth.compiler.ir.text import dump, number
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import Activation, KVKind, KVScheme

FUSED = """\
"embed" : f32[9, 8]
"head" : w8[9, 4]
"norm" : f32[8]
"qkv" : w8[4, 8]
"rope.cos" : f32[16, 2]
"rope.sin" : f32[16, 2]
"up" : w4[4, 4], groups of 4

prefill:
  %0 = Tokens() : i32[T]
  %1 = Embedding("embed", %0) : f32[T, 8]
  %2 = RMSNormQuantize(%1, gain="norm", eps=1e-05) : q8[T, 8]
  %3 = Linear(%2, "qkv") : f32[T, 4]
  %4 = Cache() : kv.0.k:int8[1, 16, 4]
  %5 = Position() : i32[]
  %6 = KVWrite(%4, %3, %5, cos="rope.cos", sin="rope.sin") : kv.0.k:int8[1, 16, 4]
  %7 = Cache() : kv.0.v:int8[1, 16, 4]
  %8 = KVWrite(%7, %3, %5) : kv.0.v:int8[1, 16, 4]
  %9 = Attention(%3, %6, %8, %5, heads=1, scale=0.5, window=8, cos="rope.cos", sin="rope.sin") : \
f32[T, 4]
  %10 = LastRows(%9) : f32[R, 4]
  %11 = Quantize(%10) : q8[R, 4]
  %12 = Linear(%11, "up", residual=%10, activation=SILU) : f32[R, 4]
  %13 = Quantize(%12) : q8[R, 4]
  %14 = Linear(%13, "head") : f32[R, 9]
  return %14, %6, %8
"""


def fused() -> Graph:
    draw = Draw()
    position, (cos, sin) = Position(), tables(16, 4)
    x = Embedding(draw.constant("embed", 9, 8), Tokens())
    qkv = Linear(
        RMSNormQuantize(x, draw.constant("norm", 8), 1e-5), draw.coded("qkv", 4, 8, bits=8)
    )

    def cache(kind: KVKind) -> Cache:
        return Cache(CacheType(0, kind, 1, 4, 16, KVScheme.INT8))

    k = KVWrite(cache(KVKind.K), qkv, position, cos, sin)
    v = KVWrite(cache(KVKind.V), qkv, position)
    y = LastRows(Attention(qkv, k, v, position, 1, 0.5, 8, cos, sin))
    up = draw.coded("up", 4, 4, bits=4, group=4)
    mlp = Linear(Quantize(y), up, residual=y, activation=Activation.SILU)
    return Graph({"prefill": (Linear(Quantize(mlp), draw.coded("head", 9, 4, bits=8)), k, v)})


def test_golden() -> None:
    assert dump(fused()) == FUSED


def test_named_results_are_named() -> None:
    x = Input("rows", 4)
    graph = Graph({"main": (L2Normalize(x, 1e-12), x)}, {"main": ("unit", "same")})
    assert dump(graph) == (
        "main:\n"
        "  %0 = Input(port=rows, columns=4) : f32[T, 4]\n"
        "  %1 = L2Normalize(%0, eps=1e-12) : f32[T, 4]\n"
        "  return unit=%1, same=%0\n"
    )


def test_equal_graphs_give_equal_text() -> None:
    assert dump(decoder(Tiny(seed=1))) == dump(decoder(Tiny(seed=1)))


def test_numbers_follow_the_text() -> None:
    graph = decoder()
    text = dump(graph)
    for op, index in number(graph.entries["main"]).items():
        assert f"  %{index} = {type(op).__name__}(" in text
