"""Every op as onnxruntime runs it, alone: the same bits, or within the bound derived for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import pytest
from support.agreement import Agreement
from support.bounds import EXP, FUNCTION_ERROR, gamma
from support.functions import EXACT
from support.graphs import CodedSource, Draw, hadamard_signs, tables
from support.onnx_run import session

from hearth.compiler.ir import arithmetic, ops
from hearth.compiler.ir.evaluate import State, run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.tensors import ArraySource, QuantisedRows
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.ir.types import CacheType, Static
from hearth.schemas.commands import GATES, Activation, KVKind, KVScheme, Pooling

VOCAB, ROWS = 12, 7
IDS = np.array([3, 0, 11, 3, 7, 1, 2])


def given(columns: int, seed: int = 0, spread: float = 3.0) -> ops.Op:
    """Random activations [T, columns], one row of zeros among them."""
    values = Draw(seed).array(VOCAB, columns, spread=spread)
    values[0] = 0
    return ops.Embedding(ops.Constant(f"table.{seed}", ArraySource(values)), TOKENS)


TOKENS, POSITION = ops.Tokens(), ops.Position()


def agree(*outputs: ops.Op, calls: tuple[int, ...] = (4, 3)) -> Agreement:
    checked = Agreement(Graph({"main": outputs}), "main", logit_rows=2)
    state, start = State.empty(), 0
    for count in calls:
        state = checked.check(IDS[start : start + count], state)
        start += count
    return checked


def rounded(constant: ops.Constant, stored: str) -> ops.Constant:
    """The constant as a checkpoint of another format holds it."""
    values = constant.value.values
    if stored == "f16":
        values = arithmetic.round_f16(values)
    if stored == "bf16":
        values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return ops.Constant(constant.name, ArraySource(values, stored))


def weight(kind: str, n: int, k: int) -> ops.Constant:
    draw = Draw(5)
    match kind:
        case "int8":
            return draw.coded("w", n, k, 8)
        case "int4":
            return draw.coded("w", n, k, 4, 8)
        case "int4 ragged":  # the last group is short: written as effective int8
            return draw.coded("w", n, k, 4, 9)
        case "int4 per channel":
            return draw.coded("w", n, k, 4)
        case "int3 table" | "int4 table" | "int6 table ragged":
            return draw.tabled("w", n, k, int(kind[3]), 9 if "ragged" in kind else 8)
        case "g4" | "g8":
            return draw.grouped("w", n, k, int(kind[1]), 8)
        case "g4 ragged":  # the last group is short: written as floats
            return draw.grouped("w", n, k, 4, 16)
    return rounded(draw.weight("w", n, k), kind)


TABLES = ("int3 table", "int4 table", "int6 table ragged")
KINDS = ("f32", "f16", "bf16", "int8", "int4", "int4 ragged", "int4 per channel", *TABLES)
GROUPED = ("g4", "g8", "g4 ragged")


@pytest.mark.parametrize("kind", KINDS + GROUPED)
@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("epilogue", [False, True])
def test_linear(kind: str, activation: Activation, epilogue: bool) -> None:
    n, k = 14, 24
    columns = n // 2 if activation in GATES else n
    extra: tuple[ops.Op | None, ...] = (None, None)
    if epilogue:
        extra = (Draw(6).constant("bias", n), given(columns, seed=2))
    x = given(k)
    agree(ops.Linear(x, weight(kind, n, k), *extra, activation))
    if "int" in kind:
        coded = agree(ops.Linear(ops.Quantize(x), weight(kind, n, k), *extra, activation))
        assert coded.flips == 0


@pytest.mark.parametrize("kind", ["int4", *TABLES])
def test_quantised_linear_gives_the_same_bits(kind: str) -> None:
    """Integers below 2^24 in float32: the share of the bound is 0 because the bound is 0."""
    linear = ops.Linear(ops.Quantize(given(64)), weight(kind, 16, 64), Draw(6).constant("b", 16))
    checked = agree(linear)
    assert checked.worst["Linear"] == 0


def test_quantised_linear_over_long_rows() -> None:
    k = 2 * arithmetic.EXACT_TERMS
    extreme = QuantisedRows(np.full((3, k), 127, np.int8), None, np.full(3, 0.5, np.float32), 0)
    loud = ops.Constant("loud", CodedSource(extreme, 8))
    table = ops.Constant("ones", ArraySource(np.ones((VOCAB, k), np.float32)))
    agree(ops.Linear(ops.Quantize(ops.Embedding(table, TOKENS)), loud))
    agree(ops.Linear(ops.Quantize(given(k)), weight("int8", 5, k)))


@pytest.mark.parametrize("kind", KINDS + GROUPED)
def test_a_table_looked_up_and_multiplied_is_written_once(kind: str) -> None:
    table = weight(kind, VOCAB, 24)
    checked = agree(ops.Linear(ops.Embedding(table, TOKENS), table))
    names = [output.name for output in checked.watched.get_outputs()]
    assert len(names) == len(set(names))
    assert checked.worst["Embedding"] == 0


@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("columns", [1, 8, 192])
def test_norms(gain: bool, columns: int) -> None:
    g = Draw(3).constant("gain", columns) if gain else None
    agree(ops.RMSNorm(given(columns), g, 1e-5))
    coded = ops.RMSNormQuantize(given(columns), g, 1e-5)
    agree(ops.Linear(coded, weight("int8", 4, columns)))


@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_head_norm(gain: bool, heads: int) -> None:
    g = Draw(3).constant("gain", 6) if gain else None
    agree(ops.HeadNorm(given(heads * 6), g, 1e-5, heads))


@pytest.mark.parametrize("zero", [-127, -20, 0, 127])
def test_static_codes(zero: int) -> None:
    """The same codes wherever x is, and the same bits behind the linear."""
    codes = ops.Quantize(given(64), Static(float(np.float32(0.04)), zero))
    checked = agree(ops.Linear(codes, weight("int4", 16, 64), Draw(6).constant("b", 16)))
    assert (checked.flips, checked.worst["Linear"]) == (0, 0)


@pytest.mark.parametrize("gain", [False, True])
def test_norms_with_static_codes(gain: bool) -> None:
    g, b = (Draw(3).constant(name, 40) if gain else None for name in ("gain", "bias"))
    static = Static(float(np.float32(0.02)), 11)
    bias = Draw(6).constant("b", 4)
    for coded in (
        ops.RMSNormQuantize(given(40), g, 1e-5, static),
        ops.LayerNormQuantize(given(40), g, b, 1e-5, static),
    ):
        agree(ops.Linear(coded, weight("int8", 4, 40), bias))


@pytest.mark.parametrize("affine", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("columns", [8, 192])
def test_layer_norms(affine: tuple[bool, bool], columns: int) -> None:
    constants = (
        Draw(3).constant(name, columns) if wanted else None
        for name, wanted in zip(("gain", "bias"), affine, strict=True)
    )
    gain, bias = constants
    agree(ops.LayerNorm(given(columns), gain, bias, 1e-5))
    coded = ops.LayerNormQuantize(given(columns), gain, bias, 1e-5)
    agree(ops.Linear(coded, weight("int8", 4, columns)))


ELEMENTWISE: tuple[Callable[[], ops.Op], ...] = (
    lambda: ops.Add(given(6), given(6, 1)),
    lambda: ops.Add(given(6), Draw(4).constant("bias", 6)),
    lambda: ops.Mul(given(6), given(6, 1)),
    lambda: ops.Activate(given(6), Activation.SILU),
    lambda: ops.Activate(given(6, spread=60), Activation.SILU),
    *(partial(ops.Gated, given(6), given(6, 1), each) for each in GATES),
    *(partial(ops.Gated, given(6, spread=60), given(6, 1, spread=60), each) for each in GATES),
    lambda: ops.Scale(given(6), 33.94),
    lambda: ops.SoftCap(given(6), 2.5),
    lambda: ops.SoftCap(given(6, spread=60), 30.0),
    lambda: ops.Slice(given(6), 2, 5),
    lambda: ops.LastRows(given(6)),
    lambda: ops.LastRows(given(6), 1),
    *(partial(ops.Pool, given(6), kind) for kind in Pooling),
    lambda: ops.L2Normalize(given(6), 1e-12),
    lambda: ops.Add(
        given(6), ops.PositionEmbedding(Draw(4).constant("positions", 16, 6), POSITION)
    ),
)


@pytest.mark.parametrize("build", ELEMENTWISE)
def test_elementwise_and_rows(build: Callable[[], ops.Op]) -> None:
    agree(build())


@pytest.mark.parametrize(
    ("blocks", "q", "r", "s"),
    [(2, 1, 1, 4), (1, 12, 1, 2), (2, 12, 20, 1), (1, 1, 1, 256), (3, 1, 1, 1)],
)
def test_hadamard(blocks: int, q: int, r: int, s: int) -> None:
    agree(ops.Hadamard(given(blocks * q * r * s), hadamard_signs(q, r), q, r, s))


def cache(kind: KVKind, scheme: KVScheme, layer: int = 0) -> ops.Cache:
    static = Static(0.03125, 40) if kind is KVKind.K else Static(0.0234375, -9)
    fixed = static if scheme is KVScheme.INT8_STATIC else None
    return ops.Cache(CacheType(layer, kind, 2, 8, 16, scheme, fixed))


@pytest.mark.parametrize("scheme", list(KVScheme))
@pytest.mark.parametrize("rotary", [0, 4, 8])
@pytest.mark.parametrize("window", [0, 1, 3])
def test_attention(scheme: KVScheme, rotary: int, window: int) -> None:
    cos_sin = tables(16, rotary) if rotary else (None, None)
    k = ops.KVWrite(cache(KVKind.K, scheme), given(16, 1), POSITION, *cos_sin)
    v = ops.KVWrite(cache(KVKind.V, scheme), given(16, 2), POSITION)
    y = ops.Attention(given(48, 3), k, v, POSITION, 6, 0.3, window, *cos_sin)
    agree(y, k, v, calls=(4, 1, 2))


@pytest.mark.parametrize("scheme", list(KVScheme))
@pytest.mark.parametrize("window", [0, 3])
def test_attention_with_capped_scores(scheme: KVScheme, window: int) -> None:
    """The cap comes before the mask: what a row does not see keeps no weight."""
    k = ops.KVWrite(cache(KVKind.K, scheme), given(16, 1), POSITION)
    v = ops.KVWrite(cache(KVKind.V, scheme), given(16, 2), POSITION)
    y = ops.Attention(given(48, 3), k, v, POSITION, 6, 0.3, window, cap=1.5)
    agree(y, k, v, calls=(4, 1, 2))


@pytest.mark.parametrize("scheme", list(KVScheme))
def test_attention_that_is_not_causal(scheme: KVScheme) -> None:
    k = ops.KVWrite(cache(KVKind.K, scheme), given(16, 1), POSITION)
    v = ops.KVWrite(cache(KVKind.V, scheme), given(16, 2), POSITION)
    y = ops.Attention(given(48, 3), k, v, POSITION, 6, 0.3, causal=False)
    agree(y, k, v, calls=(4, 1, 2))


FUNCTIONS = [each for each in Activation if each.is_function]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activations(function: Activation) -> None:
    """Everywhere it matters: near 0, around the bend, and where the function is flat."""
    for spread in (0.01, 3.0, 30.0):
        agree(ops.Activate(given(600, spread=spread), function))


@pytest.mark.parametrize("function", list(FUNCTION_ERROR))
def test_both_engines_functions_are_as_good_as_the_bounds_assume(function: Activation) -> None:
    near = np.geomspace(2.0**-60, 100, 100_000)
    x = np.concatenate([-near[::-1], [0], near, np.linspace(-12, 12, 100_001)])
    x = x.astype(np.float32).reshape(1, -1)
    given_x = ops.Input("x", x.shape[1])
    graph = Graph({"main": (ops.Activate(given_x, function),)}, {"main": ("y",)})
    (theirs,) = session(to_onnx(graph, "main")).run(["y"], {"x": x})
    exact = EXACT[function](x.astype(np.float64))
    for y in (theirs, arithmetic.activate(x, function)):
        allowed = FUNCTION_ERROR[function](np.abs(x.astype(np.float64))) + 2.0**-126
        assert np.all(np.abs(y - exact) <= allowed)


def test_named_results_and_float_ports() -> None:
    x = ops.Input("rows", 6)
    graph = Graph({"main": (ops.L2Normalize(x, 1e-12), x)}, {"main": ("unit", "same")})
    rows = Draw().array(5, 6)
    engine = session(to_onnx(graph, "main"))
    found = engine.run(["unit", "same"], {"rows": rows})
    results, state = run_entry(graph, "main", {"rows": rows})
    assert list(results) == ["unit", "same"] and state.position == 5
    np.testing.assert_array_equal(found[1], rows)
    np.testing.assert_allclose(found[0], results["unit"], rtol=2 * gamma(11))


def test_rope_alone() -> None:
    agree(ops.RoPE(given(24), *tables(16, 6), POSITION, heads=3))


def test_a_cache_that_nothing_attends_to_is_still_written() -> None:
    k = ops.KVWrite(cache(KVKind.K, KVScheme.INT8), given(16, 1), POSITION)
    agree(given(4), k)


def test_two_attentions_may_read_one_cache() -> None:
    k = ops.KVWrite(cache(KVKind.K, KVScheme.F16), given(16, 1), POSITION)
    v = ops.KVWrite(cache(KVKind.V, KVScheme.F16), given(16, 2), POSITION)
    y = [ops.Attention(given(16, 3), k, v, POSITION, 2, 0.3, window) for window in (0, 2)]
    agree(ops.Add(*y), k, v)


def test_the_engine_exp_is_as_good_as_the_bounds_assume() -> None:
    x = np.linspace(-87, 88, 300_001).astype(np.float32)
    given_x, result = (onnx.helper.make_tensor_value_info(name, 1, [None]) for name in "xy")
    node = onnx.helper.make_node("Exp", ["x"], ["y"])
    body = onnx.helper.make_graph([node], "exp", [given_x], [result])
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 23)])
    model.ir_version = 11
    (y,) = session(model).run(None, {"x": x})
    exact = np.exp(x.astype(np.float64))
    assert np.all(np.abs(y - exact) <= gamma(EXP) * exact)
