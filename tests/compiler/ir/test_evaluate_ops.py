"""Each op's meaning against an independent float64 formula, within the bound derived for that op."""

from __future__ import annotations

import numpy as np
import pytest
from support.agreement import SOURCES
from support.bounds import BOUNDS
from support.functions import EXACT
from support.graphs import Draw, hadamard_signs, tables

from hearth.compiler.ir import arithmetic, ops
from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.meanings import MEANINGS, Codes, Run, meaning
from hearth.compiler.ir.state import State
from hearth.compiler.ir.tensors import QuantisedSource
from hearth.compiler.transform.hadamard import dense
from hearth.schemas.commands import GATES, Activation, Pooling

ROWS, VOCAB = 5, 11
IDS = np.array([3, 0, 10, 3, 7])


def f64(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def start(position: int = 0) -> Run:
    return Run({"tokens": IDS}, State(position), Constants())


def given(run: Run, *columns: int, seed: int = 0) -> list[ops.Op]:
    """Random activations [ROWS, columns], put into the run as if computed."""
    draw, made = Draw(seed), []
    for count in columns:
        op = ops.Embedding(draw.constant("table", VOCAB, count, spread=3), ops.Tokens())
        run.values[op] = draw.array(ROWS, count, spread=3)
        made.append(op)
    return made


FUNCTIONS = [each for each in EXACT if each is not Activation.NONE]


def check(op: ops.Op, run: Run, exact: np.ndarray) -> None:
    got = meaning(op, run)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32
    assert got.shape == exact.shape
    bound = BOUNDS[type(op)](op, run, got)
    assert np.all(np.abs(got - exact) <= bound)


def test_embedding_looks_rows_up() -> None:
    table = Draw().constant("table", VOCAB, 6)
    op = ops.Embedding(table, ops.Tokens())
    np.testing.assert_array_equal(meaning(op, start()), table.value.values[IDS])


@pytest.mark.parametrize(("bits", "group"), [(8, 0), (4, 4), (4, 3)])
def test_quantised_embedding_scales_the_effective_weight(bits: int, group: int) -> None:
    table = Draw().coded("table", VOCAB, 8, bits, group)
    rows = table.value.quantised(0, VOCAB)
    spread = 1 if rows.multipliers is None else rows.multipliers.repeat(group, 1)[:, :8]
    exact = rows.codes.astype(int) * spread * rows.scale[:, None]
    got = meaning(ops.Embedding(table, ops.Tokens()), start())
    np.testing.assert_array_equal(got, exact[IDS].astype(np.float32))


def test_embedding_of_a_table_of_levels_rounds_them_times_their_multiplier() -> None:
    table = Draw().tabled("table", VOCAB, 8, 3, 4)
    rows = table.value.quantised(0, VOCAB)
    products = rows.table[rows.codes].astype(int) * rows.multipliers.astype(int).repeat(4, 1)
    exact = np.floor(products / 128 + 0.5) * rows.scale[:, None].astype(float)
    got = meaning(ops.Embedding(table, ops.Tokens()), start())
    np.testing.assert_array_equal(got, exact[IDS].astype(np.float32))


@pytest.mark.parametrize("ids", [[VOCAB], [-1]])
def test_embedding_refuses_ids_out_of_range(ids: list[int]) -> None:
    op = ops.Embedding(Draw().constant("table", VOCAB, 6), ops.Tokens())
    with pytest.raises(ValueError, match="token ids"):
        meaning(op, Run({"tokens": np.array(ids)}, State.empty(), Constants()))


def test_rms_norm() -> None:
    run = start()
    (x,), gain = given(run, 20), Draw(1).constant("gain", 20)
    exact = f64(run.matrix(x)) * f64(gain.value.values)
    mean = (f64(run.matrix(x)) ** 2).mean(axis=1, keepdims=True)
    check(ops.RMSNorm(x, gain, 0.5), run, exact / np.sqrt(mean + 0.5))


def test_head_norm_is_of_each_head_by_itself() -> None:
    run = start()
    (x,), gain = given(run, 20), Draw(1).constant("gain", 5)
    heads = f64(run.matrix(x)).reshape(-1, 4, 5)
    mean = (heads**2).mean(axis=2, keepdims=True)
    exact = (heads * f64(gain.value.values) / np.sqrt(mean + 0.5)).reshape(-1, 20)
    check(ops.HeadNorm(x, gain, 0.5, 4), run, exact)


def test_quantised_norm_is_the_norm_quantised() -> None:
    run = start()
    (x,), gain = given(run, 20), Draw(1).constant("gain", 20)
    fused = meaning(ops.RMSNormQuantize(x, gain, 1e-5), run)
    norm = ops.RMSNorm(x, gain, 1e-5)
    run.values[norm] = meaning(norm, run)
    apart = meaning(ops.Quantize(norm), run)
    assert isinstance(fused, Codes)
    assert isinstance(apart, Codes)
    np.testing.assert_array_equal(fused.codes, apart.codes)
    np.testing.assert_array_equal(fused.scale, apart.scale)


def test_layer_norm() -> None:
    run = start()
    (x,), draw = given(run, 20), Draw(1)
    gain, bias = draw.constant("gain", 20), draw.constant("bias", 20)
    exact = f64(run.matrix(x))
    exact = exact - exact.mean(axis=1, keepdims=True)
    exact = exact / np.sqrt((exact**2).mean(axis=1, keepdims=True) + 0.5)
    check(ops.LayerNorm(x, None, None, 0.5), run, exact)
    exact = exact * f64(gain.value.values)
    check(ops.LayerNorm(x, gain, None, 0.5), run, exact)
    check(ops.LayerNorm(x, gain, bias, 0.5), run, exact + f64(bias.value.values))


def test_quantised_layer_norm_is_the_norm_quantised() -> None:
    run, draw = start(), Draw(1)
    (x,), affine = given(run, 20), (draw.constant("gain", 20), draw.constant("bias", 20))
    fused = meaning(ops.LayerNormQuantize(x, *affine, 1e-5), run)
    norm = ops.LayerNorm(x, *affine, 1e-5)
    run.values[norm] = meaning(norm, run)
    apart = meaning(ops.Quantize(norm), run)
    assert isinstance(fused, Codes)
    assert isinstance(apart, Codes)
    np.testing.assert_array_equal(fused.codes, apart.codes)
    np.testing.assert_array_equal(fused.scale, apart.scale)


@pytest.mark.parametrize("kind", list(Pooling))
def test_pool(kind: Pooling) -> None:
    run = start()
    (x,) = given(run, 6)
    rows = f64(run.matrix(x))
    exact = {
        Pooling.MEAN: rows.mean(axis=0),
        Pooling.FIRST: rows[0],
        Pooling.LAST: rows[-1],
        Pooling.MAX: rows.max(axis=0),
    }
    check(ops.Pool(x, kind), run, exact[kind][None])


def test_l2_normalize() -> None:
    run = start()
    (x,) = given(run, 20)
    rows = f64(run.matrix(x))
    rows[1] = run.values[x][1] = 0  # a row of zeros stays one
    length = np.maximum(np.sqrt((rows**2).sum(axis=1, keepdims=True)), 1e-12)
    check(ops.L2Normalize(x, 1e-12), run, rows / length)


@pytest.mark.parametrize(("blocks", "q", "r", "s"), [(1, 1, 1, 16), (2, 12, 1, 2), (1, 12, 20, 4)])
def test_hadamard(blocks: int, q: int, r: int, s: int) -> None:
    run = start()
    (x,) = given(run, blocks * q * r * s)
    op = ops.Hadamard(x, hadamard_signs(q, r), q, r, s)
    whole = arithmetic.sylvester(s)
    for order in (r, q):
        whole = np.kron(dense(order), whole) if order > 1 else whole
    exact = f64(run.matrix(x)) @ np.kron(np.eye(blocks), whole) / np.sqrt(len(whole))
    check(op, run, exact)


def test_position_embedding_starts_at_the_position() -> None:
    table = Draw().constant("table", 16, 6)
    op = ops.PositionEmbedding(table, ops.Position())
    np.testing.assert_array_equal(meaning(op, start(position=7)), table.value.values[7 : 7 + ROWS])


def test_ports_are_read_by_name() -> None:
    types, rows = np.array([0, 1, 1, 0, 1]), Draw().array(ROWS, 4)
    run = Run({"tokens": IDS, "types": types, "rows": rows}, State.empty(), Constants())
    table = Draw().constant("types", 2, 6)
    looked_up = meaning(ops.Embedding(table, ops.Tokens(port="types")), run)
    np.testing.assert_array_equal(looked_up, table.value.values[types])
    np.testing.assert_array_equal(meaning(ops.Input("rows", 4), run), rows)
    for wrong in (ops.Input("other", 4), ops.Input("rows", 5), ops.Tokens(rows=1)):
        with pytest.raises(ValueError, match=r"reads 'other'|5 columns|1 rows"):
            meaning(wrong, run)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("k", [32, 40])  # 40: the last group is half full
def test_grouped_weights_mean_their_dequantised_values(bits: int, k: int) -> None:
    run, weight = start(), Draw(3).grouped("w", 7, k, bits, 16)
    (x,) = given(run, k)
    rows = weight.value.grouped(0, 7)
    scales, zeros = (np.repeat(each, 16, 1)[:, :k] for each in (rows.scales, rows.zeros))
    exact = (f64(rows.codes) - f64(zeros)) * f64(scales)
    check(ops.Linear(x, weight), run, f64(run.matrix(x)) @ exact.T)
    looked_up = meaning(
        ops.Embedding(weight, ops.Tokens()), Run({"tokens": IDS % 7}, State(), Constants())
    )
    np.testing.assert_array_equal(looked_up, exact.astype(np.float32)[IDS % 7])


@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("epilogue", [False, True])
@pytest.mark.parametrize("weights", ["f32", "int8", "int4", "table"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_linear(activation: Activation, epilogue: bool, weights: str, dynamic: bool) -> None:
    if weights == "f32" and dynamic:
        return
    run, draw, n, k = start(), Draw(3), 14, 24
    columns = n // 2 if activation in GATES else n
    x, residual = given(run, k, columns)
    weight = draw.weight("w", n, k) if weights == "f32" else _coded(draw, weights, n, k)
    bias = draw.constant("bias", n)
    op = ops.Linear(x, weight, *((bias, residual) if epilogue else (None, None)), activation)
    if dynamic:
        coded = ops.Quantize(x)
        run.values[coded] = meaning(coded, run)
        op = op.with_operands((coded, *op.operands[1:]))
        rows = f64(run.values[coded].codes) * f64(run.values[coded].scale)[:, None]
    else:
        rows = f64(run.matrix(x))
    y = rows @ _dequantised(weight).T + (f64(bias.value.values) if epilogue else 0)
    gated = activation in GATES
    y = EXACT[GATES[activation]](y[:, :7]) * y[:, 7:] if gated else EXACT[activation](y)
    exact = y + (f64(run.matrix(residual)) if epilogue else 0)
    got = meaning(op, run)
    bound = BOUNDS[ops.Linear](op, run, got)
    if dynamic and activation in (Activation.NONE, Activation.RELU):
        assert not bound.any()  # the same bits on every engine; rounded, so not the real value
        size = np.abs(rows) @ np.abs(_dequantised(weight)).T + np.abs(exact) + 10
        bound = 8 * 2.0**-24 * size
    assert np.all(np.abs(got - exact) <= bound + 8 * 2.0**-24 * np.abs(exact))


def _coded(draw: Draw, name: str, n: int, k: int) -> ops.Constant:
    if name == "table":
        return draw.tabled("w", n, k, 3, 8)
    return draw.coded("w", n, k, 8) if name == "int8" else draw.coded("w", n, k, 4, 8)


def _dequantised(weight: ops.Constant) -> np.ndarray:
    if not isinstance(weight.value, QuantisedSource):
        return f64(weight.value.values)
    rows = weight.value.quantised(0, weight.value.shape[0])
    return f64(rows.effective()) * f64(rows.scale)[:, None]


def test_quantised_linear_is_exact_for_long_rows() -> None:
    run, draw, k = start(), Draw(4), 3 * arithmetic.EXACT_TERMS + 5
    (x,), weight = given(run, k), draw.coded("w", 6, k, 8)
    codes = np.full((ROWS, k), 127, np.int8)
    coded = ops.Quantize(x)
    scale = draw.array(ROWS)
    run.values[coded] = Codes(codes, scale)
    rows = weight.value.quantised(0, 6)
    acc = (codes.astype(np.int64) @ rows.codes.T.astype(np.int64)).astype(np.float32)
    expected = (acc * scale[:, None]) * rows.scale
    np.testing.assert_array_equal(meaning(ops.Linear(coded, weight), run), expected)


def test_elementwise_ops_round_once() -> None:
    run = start()
    a, b = given(run, 6, 6)
    vector = Draw(5).constant("bias", 6)
    left, right = run.matrix(a), run.matrix(b)
    for op, exact in (
        (ops.Add(a, b), left + right),
        (ops.Add(a, vector), left + vector.value.values),
        (ops.Mul(a, b), left * right),
        (ops.Scale(a, 33.94), left * np.float32(33.94)),
        (ops.Slice(a, 2, 5), left[:, 2:5]),
        (ops.LastRows(a, 2), left[-2:]),
    ):
        np.testing.assert_array_equal(meaning(op, run), exact)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activations(function: Activation) -> None:
    run = start()
    (a,) = given(run, 60)
    check(ops.Activate(a, function), run, EXACT[function](f64(run.matrix(a))))


def test_soft_cap_keeps_small_values_and_bounds_large_ones() -> None:
    run = start()
    (a,) = given(run, 60)
    x = f64(run.matrix(a))
    for cap in (0.5, 3.0, 1000.0):
        check(ops.SoftCap(a, cap), run, np.tanh(x / cap) * cap)
        assert (np.abs(meaning(ops.SoftCap(a, cap), run)) <= cap).all()


@pytest.mark.parametrize("activation", GATES)
def test_gated(activation: Activation) -> None:
    run = start()
    a, b = given(run, 6, 6)
    exact = EXACT[GATES[activation]](f64(run.matrix(a))) * f64(run.matrix(b))
    check(ops.Gated(a, b, activation), run, exact)


def test_rope_starts_at_the_position() -> None:
    run = start(position=7)
    (x,), (cos, sin) = given(run, 24), tables(16, 6)
    op = ops.RoPE(x, cos, sin, ops.Position(), heads=3)
    heads = f64(run.matrix(x)).reshape(ROWS, 3, 8)
    turn = f64(cos.value.values) + 1j * f64(sin.value.values)
    turned = (heads[..., :3] + 1j * heads[..., 3:6]) * turn[7 : 7 + ROWS, None]
    exact = np.concatenate([turned.real, turned.imag, heads[..., 6:]], axis=-1)
    check(op, run, exact.reshape(ROWS, 24))


def test_every_op_has_a_meaning() -> None:
    here = {kind for kind in _subclasses(ops.Op) if kind.__module__.startswith(f"{ops.__name__}.")}
    assert set(MEANINGS) == set(BOUNDS) | set(SOURCES) == here - {ops.Op, ops.Elementwise}


def _subclasses(kind: type) -> set[type]:
    found = {kind}
    for child in kind.__subclasses__():
        found |= _subclasses(child)
    return found
