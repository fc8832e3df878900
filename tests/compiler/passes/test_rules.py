"""The edge of each rule: where it must not fire."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.graphs import Draw

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Activate,
    Add,
    Constant,
    Gated,
    LayerNorm,
    Linear,
    Mul,
    Op,
    RMSNorm,
    Slice,
    Tokens,
)
from hearth.compiler.ir.ops import Embedding as Embed
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import ArraySource, ConcatGroupedSource, read
from hearth.compiler.passes.cse import cse
from hearth.compiler.passes.fold import fold
from hearth.compiler.passes.fold_norm_gain import fold_norm_gain
from hearth.compiler.passes.fuse_activation import fuse_activation
from hearth.compiler.passes.fuse_bias import fuse_bias
from hearth.compiler.passes.fuse_gate import fuse_gate
from hearth.compiler.passes.fuse_residual import fuse_residual
from hearth.compiler.passes.merge_linears import merge_linears, merged_name
from hearth.compiler.passes.tie import tie
from hearth.schemas.commands import GATES, Activation

N = 8


def const(name: str, *shape: int, value: float | None = None) -> Constant:
    rng = np.random.default_rng(sum(map(ord, name)))
    values = rng.standard_normal(shape) if value is None else np.full(shape, value)
    return Constant(name, ArraySource(values.astype(np.float32)))


def row() -> Op:
    return Embed(const("table", N, N), Tokens())


def graph(*outputs: Op) -> Graph:
    return Graph({"main": outputs})


def test_fold_drops_zero_bias_unit_gain_and_whole_slices() -> None:
    x = row()
    zero = Add(x, const("zero", N, value=0.0))
    norm = RMSNorm(x, const("one", N, value=1.0), 1e-5)
    folded = fold(graph(zero, norm, Slice(x, 0, N), Slice(Slice(x, 2, 8), 1, 3)))
    first, second, third, fourth = folded.entries["main"]
    assert first is x and third is x
    assert isinstance(second, RMSNorm) and second.gain is None
    assert isinstance(fourth, Slice) and (fourth.start, fourth.stop) == (3, 5)


def test_a_linear_read_twice_keeps_its_result() -> None:
    x = row()
    y = Linear(x, const("w", N, N))
    for fuse, reader in (
        (fuse_residual, Add(x, y)),
        (fuse_bias, Add(y, const("b", N))),
        (fuse_activation, Activate(y, Activation.SILU)),
    ):
        before = graph(reader, y)
        assert fuse(before) is before


@pytest.mark.parametrize("activation", GATES)
def test_a_gated_epilogue_needs_gate_first_and_both_halves(activation: Activation) -> None:
    y = Linear(row(), const("w", 2 * N, N))
    swapped = graph(Gated(Slice(y, N, 2 * N), Slice(y, 0, N), activation))
    assert fuse_activation(swapped) is swapped
    fused = fuse_activation(graph(Gated(Slice(y, 0, N), Slice(y, N, 2 * N), activation)))
    found = fused.entries["main"][0]
    assert isinstance(found, Linear) and found.activation is activation


def test_every_gate_is_fused_from_either_side_and_no_other_function() -> None:
    gate, up = row(), row()
    for activation, function in GATES.items():
        for product in (Mul(Activate(gate, function), up), Mul(up, Activate(gate, function))):
            (found,) = fuse_gate(graph(product)).entries["main"]
            assert isinstance(found, Gated) and found.activation is activation
            assert (found.gate, found.up) == (gate, up)
    other = graph(Mul(Activate(gate, Activation.GELU), up))
    assert fuse_gate(other) is other


def test_a_tied_table_keeps_its_gain() -> None:
    table = const("table", N, N)
    norm = RMSNorm(Embed(table, Tokens()), const("gain", N), 1e-5)
    before = graph(Linear(norm, table))
    assert fold_norm_gain(before) is before


def test_a_norm_with_another_reader_keeps_its_gain() -> None:
    norm = RMSNorm(row(), const("gain", N), 1e-5)
    before = graph(Mul(norm, Linear(norm, const("w", N, N))))
    assert fold_norm_gain(before) is before


def test_a_layer_norm_folds_its_gain_and_its_bias_into_the_linear() -> None:
    affine = const("gain", N), const("bias", N)
    weight, before = const("w", 5, N), const("b", 5)
    norm = LayerNorm(row(), *affine, 1e-5)
    for bias in (None, before):
        (folded,) = fold_norm_gain(graph(Linear(norm, weight, bias))).entries["main"]
        assert isinstance(folded, Linear) and isinstance(folded.x, LayerNorm)
        assert folded.x.gain is None and folded.x.bias is None
        w, _, b = (each.value.values.astype(np.float64) for each in (weight, *affine))
        assert np.array_equal(
            read(folded.weight.value), weight.value.values * affine[0].value.values
        )
        exact = w @ b + (0 if bias is None else bias.value.values)
        size = np.abs(w) @ np.abs(b) + 2
        assert np.all(np.abs(read(folded.bias.value) - exact) <= 2.0**-24 * size)
        pieces = [folded.bias.value.rows(at, at + 1) for at in range(5)]
        assert np.array_equal(np.concatenate(pieces), read(folded.bias.value))


def test_a_layer_norm_that_the_residual_reads_keeps_its_bias() -> None:
    norm = LayerNorm(row(), const("gain", N), const("bias", N), 1e-5)
    before = graph(Add(norm, Linear(norm, const("w", N, N))))
    assert fold_norm_gain(before) is before


def test_a_norm_that_an_entry_gives_keeps_its_gain() -> None:
    norm = LayerNorm(row(), const("gain", N), const("bias", N), 1e-5)
    before = Graph({"main": (Linear(norm, const("w", N, N)),), "hidden": (norm,)})
    assert fold_norm_gain(before) is before


def test_merging_stacks_rows_and_fills_missing_biases() -> None:
    x = row()
    parts = [Linear(x, const("a.q.w", N, N), const("a.q.b", N)), Linear(x, const("a.k.w", 4, N))]
    merged = merge_linears(graph(*parts))
    slices = merged.entries["main"]
    whole = slices[0].operands[0]
    assert isinstance(whole, Linear) and isinstance(whole.weight, Constant)
    assert whole.weight.name == "a.q+k.w"
    assert [(each.start, each.stop) for each in slices if isinstance(each, Slice)] == [
        (0, 8),
        (8, 12),
    ]
    bias = whole.bias
    assert isinstance(bias, Constant) and isinstance(bias.value.rows(8, 12), np.ndarray)
    assert not bias.value.rows(8, 12).any()


def test_merged_names_join_what_differs() -> None:
    assert merged_name(["l.0.attn.q.weight", "l.0.attn.k.weight"]) == "l.0.attn.q+k.weight"
    assert merged_name(["a", "b"]) == "a+b"


def test_linears_with_a_shared_weight_are_not_merged() -> None:
    x, shared = row(), const("w", N, N)
    before = graph(
        Linear(x, shared), Linear(x, const("v", N, N)), Linear(Activate(x, Activation.SILU), shared)
    )
    assert merge_linears(before) is before


def test_tie_compares_values_not_names() -> None:
    values = np.arange(N * N, dtype=np.float32).reshape(N, N)
    one, two = (Constant(name, ArraySource(values.copy())) for name in ("embed", "head"))
    other = Constant("other", ArraySource(values + 1))
    tied = tie(graph(Linear(Embed(one, Tokens()), two), Linear(row(), other)))
    found = {op.name for op in order(tied.entries["main"]) if isinstance(op, Constant)}
    assert found == {"embed", "other", "table"}


def test_cse_shares_equal_ops_and_only_those() -> None:
    x = row()
    shared = cse(
        graph(
            Mul(Activate(x, Activation.SILU), Activate(x, Activation.SILU)),
            Slice(x, 0, 2),
            Slice(x, 0, 3),
        )
    )
    product, two, three = shared.entries["main"]
    assert product.operands[0] is product.operands[1]
    assert two is not three


def test_concatenated_rows_read_across_parts(decoder: Callable[..., Graph]) -> None:
    merged = merge_linears(decoder(layers=1))
    for op in order(merged.entries["main"]):
        if isinstance(op, Constant) and "+" in op.name:
            whole = read(op.value)
            pieces = [op.value.rows(i, min(i + 5, len(whole))) for i in range(0, len(whole), 5)]
            assert np.array_equal(whole, np.concatenate(pieces))


def test_grouped_weights_are_merged_where_bits_and_group_agree() -> None:
    draw = Draw(3)
    x = RMSNorm(Embed(draw.weight("e", 9, 64), Tokens()), None, 1e-5)

    def merged(*forms: tuple[int, int]) -> list[Constant]:
        weights = [draw.grouped(f"w.{i}", 20, 64, *form) for i, form in enumerate(forms)]
        linears = tuple(Linear(x, weight) for weight in weights)
        after = merge_linears(Graph({"main": linears}, {"main": ("a", "b")}))
        found = [op for op in order(after.entries["main"]) if isinstance(op, Linear)]
        return [op.weight for op in found if isinstance(op.weight, Constant)]

    (both,) = merged((4, 32), (4, 32))
    assert isinstance(both.value, ConcatGroupedSource)
    rows, parts = both.value.grouped(15, 30), both.value.parts
    assert np.array_equal(rows.codes[:5], parts[0].grouped(15, 20).codes)
    assert np.array_equal(rows.scales[5:], parts[1].grouped(0, 10).scales)
    assert np.array_equal(rows.zeros[5:], parts[1].grouped(0, 10).zeros)
    assert len(merged((4, 32), (4, 64))) == len(merged((4, 32), (8, 32))) == 2
