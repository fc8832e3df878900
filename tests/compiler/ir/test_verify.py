"""Sound graphs pass; each broken rule is refused with the op's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.graphs import MEASURELESS, Draw, Tiny, decoder, tables

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Add,
    Attention,
    Cache,
    Constant,
    Embedding,
    Input,
    IRError,
    KVWrite,
    LastRows,
    LayerNorm,
    Linear,
    Mul,
    Op,
    Position,
    PositionEmbedding,
    Quantize,
    RMSNorm,
    RoPE,
    Tokens,
)
from hearth.compiler.ir.rewrite import rewrite
from hearth.compiler.ir.types import CacheType, Dim, Static, TensorType
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import INT4_G32
from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.dtypes import DType

DRAW = Draw()
TABLE = DRAW.constant("table", 9, 8)


def x(rows: int | Dim = Dim.T) -> Op:
    return Embedding(TABLE, Tokens(rows))


def cache(kind: KVKind = KVKind.K, **changes: object) -> Cache:
    kind_type = CacheType(0, kind, 1, 8, 16, KVScheme.F32)
    return Cache(replace(kind_type, **changes))  # type: ignore[arg-type]


def attended(
    change_k: Callable[[Op], Op] = lambda op: op, change_v: Callable[[Op], Op] = lambda op: op
) -> Graph:
    rows, position = x(), Position()
    k = KVWrite(change_k(cache(KVKind.K)), rows, position)
    v = KVWrite(change_v(cache(KVKind.V)), rows, position)
    return Graph({"main": (Attention(rows, k, v, position, 1, 1.0), k, v)})


def retyped(op: Op, shape: tuple[int | Dim, ...]) -> Op:
    op.__dict__["type"] = TensorType(DType.F32, shape)
    return op


def short_tables() -> Graph:
    rows, position = x(), Position()
    k = KVWrite(cache(), rows, position, *tables(15, 8))
    return Graph({"main": (rows, k)})


def short_positions() -> Graph:
    rows, position = x(), Position()
    k = KVWrite(cache(), rows, position)
    table = DRAW.constant("positions", 15, 8)
    return Graph({"main": (Add(rows, PositionEmbedding(table, position)), k)})


def computed_position() -> Graph:
    return one(Add(x(), PositionEmbedding(TABLE, Row())))


def two_inputs() -> Graph:
    return Graph({"main": (x(), Input("b", 8, 1))}, {"main": ("a", "b")})


def written_twice() -> Graph:
    rows, position = x(), Position()
    writes = (KVWrite(cache(), rows, position), KVWrite(cache(), rows, position))
    return Graph({"main": (rows, *writes)})


def write_over_write() -> Graph:
    rows, position = x(), Position()
    first = KVWrite(cache(), rows, position)
    return Graph({"main": (rows, KVWrite(first, rows, position))})


def read_before_write() -> Graph:
    rows, position = x(), Position()
    v = KVWrite(cache(KVKind.V), rows, position)
    return Graph({"main": (Attention(rows, cache(), v, position, 1, 1.0), v)})


def differing_entries() -> Graph:
    def entry(context: int) -> tuple[Op, ...]:
        rows = x()
        return rows, KVWrite(cache(context=context), rows, Position())

    return Graph({"prefill": entry(16), "decode": entry(17)})


def unlisted_write() -> Graph:
    graph = attended()
    return Graph({"main": graph.entries["main"][:2]})


def last_of_last() -> Graph:
    return Graph({"main": (LastRows(LastRows(x()), 1),)})


def two_positions() -> Graph:
    rows = x()
    k = KVWrite(cache(KVKind.K), rows, Position())
    v = KVWrite(cache(KVKind.V), rows, Position())
    return Graph({"main": (rows, k, v)})


def one(op: Op) -> Graph:
    return Graph({"main": (op,)})


REFUSED: tuple[tuple[str, Callable[[], Graph], str], ...] = (
    ("no entries", lambda: Graph({}), "no entry"),
    ("no outputs", lambda: Graph({"main": ()}), "no outputs"),
    ("no logits", lambda: one(cache()), "logits"),
    ("an op among the caches", lambda: Graph({"main": (x(), x())}), "must be written caches"),
    (
        "one name, two constants",
        lambda: one(Linear(x(), DRAW.constant("table", 4, 8))),
        "Constant.*another constant has this name",
    ),
    (
        "an empty constant",
        lambda: one(Linear(x(), DRAW.constant("none", 0, 8))),
        "'none'|the constant is empty",
    ),
    ("a wrong type", lambda: one(retyped(x(), (Dim.T, 9))), r"Embedding\('table'\).*f32\[T, 8\]"),
    ("two token inputs", lambda: one(Add(x(), x())), "a second input 'tokens'"),
    ("two positions", two_positions, "a second Position"),
    ("no tokens", lambda: one(TABLE), "no Tokens"),
    ("a computed gain", lambda: one(RMSNorm(x(), Row(), 1e-5)), "the gain is no constant"),
    ("a computed weight", lambda: one(Linear(x(), Square())), "the weight is no constant"),
    ("mixed rows", lambda: one(mixed_rows()), "Linear.*mixes rows"),
    ("rows of last rows", last_of_last, "LastRows.*must take"),
    ("caches of last rows", lambda: kv_of_last_rows(), "KVWrite.*must take"),
    ("short tables", short_tables, "KVWrite.*tables end at 15"),
    ("short positions", short_positions, "PositionEmbedding.*tables end at 15"),
    ("a computed position", computed_position, "the position is no Position"),
    ("a computed norm bias", lambda: one(LayerNorm(x(), None, Row(), 1e-5)), "the bias is no"),
    (
        "one result for two names",
        lambda: Graph({"main": (x(),)}, {"main": ("a", "b")}),
        "no outputs for b",
    ),
    (
        "one name for two results",
        lambda: Graph({"main": (x(), x())}, {"main": ("a", "a")}),
        "names",
    ),
    (
        "a cache among the results",
        lambda: Graph({"main": (x(), cache())}, {"main": ("a", "b")}),
        "the output 'b' must be a matrix",
    ),
    ("rows of two inputs", two_inputs, "expected one kind"),
    (
        "an input of one row",
        lambda: one(Add(x(), PositionEmbedding(TABLE, Position(), 1))),
        "shapes must be equal|must give",
    ),
    ("written twice", written_twice, "KVWrite.*written twice"),
    ("write over write", write_over_write, "writes over another write"),
    ("read before write", read_before_write, "k is read before it is written"),
    ("never written", lambda: Graph({"main": (UsesCache(x(), cache()),)}), "never written"),
    ("write not an output", unlisted_write, "must be an output"),
    ("entries differ", differing_entries, "entry 'decode': KVWrite.*elsewhere it is"),
    ("k for v", lambda: attended(change_v=lambda _: cache(KVKind.K, layer=1)), "k is .* and v is"),
    ("schemes", lambda: attended(lambda _: cache(scheme=KVScheme.F16)), "scheme differs"),
    (
        "a static cache without codes",
        lambda: attended(
            lambda _: cache(scheme=KVScheme.INT8_STATIC),
            lambda _: cache(KVKind.V, scheme=KVScheme.INT8_STATIC),
        ),
        "and static codes",
    ),
    (
        "a zero point without a bias",
        lambda: one(Linear(Quantize(x(), Static(0.5, 3)), DRAW.coded("w", 4, 8, 8))),
        "Linear.*no bias for the zero point",
    ),
    ("layers", lambda: attended(lambda _: cache(layer=3)), "layer differs"),
    ("contexts", lambda: attended(lambda _: cache(context=99)), "context differs"),
)


class Row(Op):
    """A vector that is no constant."""

    def infer(self) -> TensorType:
        return TensorType(DType.F32, (8,))


class Square(Op):
    """A matrix that is no constant."""

    def infer(self) -> TensorType:
        return TensorType(DType.F32, (8, 8))


class UsesCache(Op):
    """Reads a cache without writing it."""

    def __init__(self, rows: Op, state: Op) -> None:
        self.__dict__.update(operands=(rows, state))

    def infer(self) -> TensorType:
        return TensorType(DType.F32, (Dim.T, 8))


def mixed_rows() -> Op:
    tall = x()
    last = LastRows(tall)
    broken = Linear(last, DRAW.constant("w", 8, 8), residual=last)
    broken.__dict__["residual"] = tall
    broken.__dict__.pop("operands", None)
    broken.__dict__["infer"] = lambda: broken.type
    return broken


def kv_of_last_rows() -> Graph:
    rows = LastRows(x())
    return Graph({"main": (rows, KVWrite(cache(), rows, Position()))})


@pytest.mark.parametrize(
    ("build", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused(build: Callable[[], Graph], message: str) -> None:
    with pytest.raises(IRError, match=message):
        verify(build())


@pytest.mark.parametrize("kv", MEASURELESS)
@pytest.mark.parametrize("tied", [False, True])
def test_every_stage_of_a_decoder_is_sound(kv: KVScheme, tied: bool) -> None:
    graph = decoder(Tiny(kv=kv, tied=tied, bias=True))
    verify(graph)
    fused = run_passes(FLOAT_PASSES, graph)
    coded = quantize(fused, make_scheme(INT4_G32, "dynamic", kv))
    verify(coded)
    verify(run_passes(QUANTISED_PASSES, coded))


def test_a_hundred_layers_are_checked_without_recursion() -> None:
    verify(decoder(Tiny(layers=100, hidden=4, heads=1, kv_heads=1, head_dim=4, ffn=4)))


def test_a_constant_with_another_name_is_another_constant() -> None:
    def renamed(op: Op) -> Op | None:
        match op:
            case Constant(name="lm_head.weight"):
                return Constant("head", op.value)
        return None

    verify(rewrite(decoder(Tiny(tied=False)), renamed))


def test_operands_of_the_right_shape_only() -> None:
    with pytest.raises(IRError, match="shapes must be equal"):
        Mul(x(), LastRows(x(), 1))
    with pytest.raises(IRError, match="columns for 3 heads"):
        RoPE(x(), *tables(16, 8), Position(), 3)
