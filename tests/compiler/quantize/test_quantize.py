"""quantize(graph, scheme): which constants are coded, that tied ones stay shared, that nothing is read early."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Linear, Op, Quantize, RMSNorm, Tokens
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import F32, ArraySource, ConcatSource, QuantisedSource
from hearth.compiler.quantize import Scheme, make_scheme, quantize, weight_scheme
from hearth.compiler.quantize.schemes import F16, INT4_G32, INT8
from hearth.compiler.quantize.schemes import F32 as FLOAT
from hearth.schemas.dtypes import DType
from hearth.schemas.errors import CheckpointError, UsageError


@dataclass(eq=False)
class Watched:
    """A source that notes which rows were read."""

    values: F32
    stored: str = "bf16"
    read: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def rows(self, start: int, stop: int) -> F32:
        self.read.append((start, stop))
        return self.values[start:stop]


def _weight(name: str, n: int, k: int) -> Constant:
    values = np.random.default_rng(n).standard_normal((n, k)).astype(np.float32)
    return Constant(name, Watched(values))


def _graph(tied: bool) -> Graph:
    table = _weight("embed", 50, 64)
    x = RMSNorm(
        Embedding(table, Tokens()), Constant("gain", ArraySource(np.ones(64, np.float32))), 1e-5
    )
    left, right = Linear(x, _weight("left", 64, 64)), Linear(x, _weight("right", 64, 64))
    head = table if tied else _weight("head", 50, 64)
    return Graph({"main": (Linear(left, head), Linear(right, head))})


def _constants(graph: Graph) -> dict[str, Constant]:
    return {op.name: op for op in order(all_outputs(graph)) if isinstance(op, Constant)}


def _count(graph: Graph, kind: type[Op]) -> int:
    return sum(isinstance(op, kind) for op in order(all_outputs(graph)))


def test_weights_become_coded_constants_and_stay_lazy() -> None:
    graph = _graph(tied=False)
    watched = [c.value for c in _constants(graph).values() if isinstance(c.value, Watched)]
    after = quantize(graph, make_scheme(INT4_G32))
    coded = _constants(after)
    assert {name: c.type.dtype for name, c in coded.items()} == {
        "embed": DType.W8,
        "gain": DType.F32,
        "left": DType.W4,
        "right": DType.W4,
        "head": DType.W4,
    }
    assert not any(source.read for source in watched)
    value = coded["left"].value
    assert isinstance(value, QuantisedSource)
    value.quantised(5, 9)
    assert [source.read for source in watched if source.read] == [[(5, 9)]]


def test_a_tied_table_is_coded_once_by_the_embeddings_scheme() -> None:
    after = quantize(_graph(tied=True), make_scheme(INT4_G32))
    constants = [op for op in order(all_outputs(after)) if isinstance(op, Constant)]
    assert sorted(op.name for op in constants) == ["embed", "gain", "left", "right"]
    assert _constants(after)["embed"].type.dtype is DType.W8


def test_one_quantize_serves_all_readers_of_a_row() -> None:
    dynamic = quantize(_graph(tied=False), make_scheme(INT8))
    assert _count(dynamic, Quantize) == 3  # the norm's result once, each linear's once
    assert _count(quantize(_graph(tied=False), make_scheme(INT8, "none")), Quantize) == 0


def test_float_schemes() -> None:
    graph = _graph(tied=False)
    assert quantize(graph, make_scheme(FLOAT, "none")) is graph
    half = _constants(quantize(graph, make_scheme(F16, "none")))["left"]
    assert half.type.dtype is DType.F16
    exact = _constants(graph)["left"].value.rows(0, 64)
    assert np.array_equal(half.value.rows(0, 64), exact.astype(np.float16).astype(np.float32))


def test_a_weight_beyond_f16_is_refused_by_name() -> None:
    big = Constant("big", ArraySource(np.full((4, 64), 1e6, np.float32)))
    x = Embedding(_weight("embed", 8, 64), Tokens())
    after = quantize(Graph({"main": (Linear(x, big),)}), make_scheme(F16, "none"))
    with pytest.raises(CheckpointError, match="big") as error:
        _constants(after)["big"].value.rows(0, 4)
    assert error.value.code == "quantize.f16_range"


def test_quantising_twice_changes_nothing() -> None:
    scheme = make_scheme(INT4_G32)
    once = quantize(_graph(tied=True), scheme)
    assert quantize(once, scheme) is once


def test_concatenated_weights_are_the_concatenation_of_their_codes() -> None:
    parts = [_weight(name, n, 96).value for name, n in (("q", 20), ("k", 7), ("v", 7))]
    x = Embedding(_weight("embed", 8, 96), Tokens())
    whole = Constant("qkv", ConcatSource(tuple(parts)))
    after = _constants(quantize(Graph({"main": (Linear(x, whole),)}), make_scheme(INT4_G32)))["qkv"]
    rows = after.value.quantised(18, 30)
    assert rows.codes.shape == (12, 96)
    assert np.array_equal(rows.scale, after.value.quantised(0, 34).scale[18:30])


@pytest.mark.parametrize(
    ("name", "group", "code"),
    [
        ("int9", 0, "usage.weights"),
        ("int4", 48, "usage.group_size"),
        ("int8", 32, "usage.group_size"),
    ],
)
def test_unknown_schemes_are_usage_errors(name: str, group: int, code: str) -> None:
    with pytest.raises(UsageError) as error:
        weight_scheme(name, group)
    assert error.value.code == code


def test_named_schemes() -> None:
    assert weight_scheme("int4") == INT4_G32
    assert weight_scheme("int4", 128).group == 128
    assert weight_scheme("f32").bits == 32
    assert make_scheme(INT4_G32).embeddings == INT8
    assert make_scheme(F16, "none").embeddings == F16
    assert make_scheme(INT8).embeddings == INT8
    assert isinstance(make_scheme(INT8), Scheme)
    with pytest.raises(UsageError, match="dynamic") as error:
        make_scheme(FLOAT, "dynamic")
    assert error.value.code == "usage.activations"
