"""Static codes in graphs: no op more than with dynamic ones, zero points in the biases, nothing missing unnoticed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from support.graphs import Draw, Tiny, decoder
from support.programs import TARGET
from support.statics import coded_graph, measured

from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.evaluate import State, evaluate, run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Cache,
    Constant,
    Input,
    IRError,
    Linear,
    Op,
    Quantize,
    RMSNormQuantize,
)
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import QuantisedRows, QuantisedSource
from hearth.compiler.ir.text import dump
from hearth.compiler.ir.types import Static
from hearth.compiler.ir.verify import verify
from hearth.compiler.lower import lower
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.quantize import Scheme, Statics, quantize
from hearth.compiler.quantize.schemes import F16, INT4_G32, INT8, WeightScheme
from hearth.runtime.verify.plan import check
from hearth.schemas.commands import Activation, KVKind, KVScheme

IDS = np.random.default_rng(1).integers(0, 53, 24).tolist()
STATIC = Scheme(INT4_G32, INT8, "static", KVScheme.INT8_STATIC)
DYNAMIC = replace(STATIC, activations="dynamic", kv=KVScheme.INT8)
SHAPES = {
    "bias": Tiny(bias=True, tied=False),
    "tied": Tiny(tied=True),
    "window": Tiny(window=5, rotary=4, bias=True),
}


def floats(tiny: Tiny) -> Graph:
    return run_passes(FLOAT_PASSES, decoder(replace(tiny, kv=KVScheme.F32)))


def linears(graph: Graph) -> dict[str, Linear]:
    ops = order(all_outputs(graph))
    return {
        op.weight.name: op
        for op in ops
        if isinstance(op, Linear) and isinstance(op.weight, Constant)
    }


@pytest.mark.parametrize("weights", [INT8, INT4_G32], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_program_is_that_of_dynamic_codes(shape: str, weights: WeightScheme) -> None:
    graph = floats(SHAPES[shape])
    statics = measured(graph, "prefill", IDS)
    scheme = replace(STATIC, weights=weights)
    program = lower(coded_graph(graph, scheme, statics), TARGET).program
    check(program)
    other = lower(coded_graph(graph, replace(DYNAMIC, weights=weights), Statics()), TARGET).program
    for name, entry in other.entries.items():
        wanted = [f"{c.op}_static" if "quantize" in c.op else c.op for c in entry.commands]
        assert [command.op for command in program.entries[name].commands] == wanted
        assert program.entries[name].arena_nbytes == entry.arena_nbytes
    assert program.kv_nbytes < other.kv_nbytes


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_near_those_of_floats(shape: str) -> None:
    """Minmax ranges of the very text: as near as dynamic codes but for a factor."""
    graph = floats(SHAPES[shape])
    schemes = {
        "static": replace(STATIC, weights=INT8),
        "dynamic": replace(DYNAMIC, weights=INT8),
        "weights": replace(DYNAMIC, weights=INT8, activations="none", kv=KVScheme.F32),
    }
    statics = measured(graph, "prefill", IDS)
    rows = {
        name: evaluate(
            coded_graph(graph, scheme, statics), "prefill", IDS, State.empty(), logit_rows=24
        )[0]
        for name, scheme in schemes.items()
    }
    exact = rows.pop("weights")
    errors = {name: np.sqrt(((each - exact) ** 2).mean()) for name, each in rows.items()}
    assert errors["static"] <= 6 * errors["dynamic"]
    assert errors["static"] <= 0.1 * np.sqrt((exact**2).mean())


@pytest.mark.parametrize("kind", ["int8", "int4", "table"])
@pytest.mark.parametrize("activation", [Activation.NONE, Activation.SWIGLU])
@pytest.mark.parametrize("biased", [False, True])
def test_the_bias_makes_up_for_the_zero_point(
    kind: str, activation: Activation, biased: bool
) -> None:
    draw = Draw(4)
    n, k = 22, 70
    weight = {
        "int8": lambda: draw.coded("w", n, k, 8),
        "int4": lambda: draw.coded("w", n, k, 4, 32),
        "table": lambda: draw.tabled("w", n, k, 3, 32),
    }[kind]()
    bias = draw.constant("b", n) if biased else None
    x = Input("x", k)
    graph = Graph({"main": (Linear(x, weight, bias, None, activation),)}, {"main": ("y",)})
    codes = Static(float(np.float32(0.021)), -93)
    after = quantize(graph, replace(STATIC, kv=KVScheme.F32), statics=Statics({"w": codes}))
    verify(after)
    (linear,) = linears(after).values()
    assert linear.x == Quantize(x, codes) or isinstance(linear.x, Quantize)
    rows = draw.array(5, k, spread=0.8) + np.float32(1)
    found = run_entry(after, "main", {"x": rows})[0]["y"].astype(np.float64)

    assert isinstance(weight.value, QuantisedSource)
    steps = np.clip(np.rint(rows * codes.inverse) + codes.zero, -127, 127) - codes.zero
    w = weight.value.quantised(0, n).dequantise().astype(np.float64)
    y = steps * codes.scale @ w.T
    size = np.abs(steps * codes.scale) @ np.abs(w).T + 220 * codes.scale * np.abs(w).sum(axis=1)
    if bias is not None:
        extra = run_entry(Graph({"main": (Linear(x, weight, bias),)}, {"main": ("y",)}), "main",
                          {"x": np.zeros((1, k), np.float32)})[0]["y"][0]  # fmt: skip
        y, size = y + extra, size + np.abs(extra)
    error = size * 2.0**-22
    if activation is Activation.SWIGLU:
        gate, up = y[:, : n // 2], y[:, n // 2 :]
        y = gate / (1 + np.exp(-gate)) * up
        error = (error[:, : n // 2] * 1.1 * np.abs(up) + error[:, n // 2 :] * np.abs(gate)) * 2
        error += np.abs(y) * 2.0**-20
    assert np.all(np.abs(found - y) <= error + 1e-30)


def test_a_zero_point_of_0_needs_no_bias() -> None:
    graph = Graph(
        {"main": (Linear(Input("x", 64), Draw().coded("w", 8, 64, 8)),)}, {"main": ("y",)}
    )
    after = quantize(graph, STATIC, statics=Statics({"w": Static(0.5)}))
    assert linears(after)["w"].bias is None


@dataclass(eq=False)
class Counted:
    """A coded weight that counts how often a row was coded."""

    rows: QuantisedRows
    bits: int = 8
    group: int = 0
    tabled: bool = False
    coded: dict[int, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.rows.codes.shape)

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        for row in range(start, stop):
            self.coded[row] = self.coded.get(row, 0) + 1
        return QuantisedRows(self.rows.codes[start:stop], None, self.rows.scale[start:stop], 0)


def test_packing_codes_each_row_once() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (40, 64)).astype(np.int8)
    weight = Counted(QuantisedRows(codes, None, np.ones(40, np.float32), 0))
    graph = Graph({"main": (Linear(Input("x", 64), Constant("w", weight)),)}, {"main": ("y",)})
    after = quantize(graph, STATIC, statics=Statics({"w": Static(0.5, 9)}))
    assert not weight.coded
    lowered = lower(after, TARGET)
    for tensor in lowered.weights:
        for _ in tensor.chunks():
            pass
    assert weight.coded == dict.fromkeys(range(40), 1)
    bias = linears(after)["w"].bias
    assert isinstance(bias, Constant)
    expected = -(0.5 * 9) * codes.astype(np.float64).sum(axis=1)
    np.testing.assert_array_equal(Constants().array(bias), expected.astype(np.float32))


def test_inputs_named_dynamic_stay_dynamic() -> None:
    graph = floats(SHAPES["bias"])
    statics = measured(graph, "prefill", IDS)
    down = [name for name in statics.inputs if "down" in name]
    kept = {name: codes for name, codes in statics.inputs.items() if name not in down}
    mixed = Statics(kept, statics.caches, frozenset(down))
    for activations in ("auto", "static"):
        after = coded_graph(graph, replace(STATIC, activations=activations), mixed)
        for name, linear in linears(after).items():
            assert isinstance(linear.x, Quantize | RMSNormQuantize)
            assert (linear.x.static is None) == (name in down)
    verify(after)
    check(lower(after, TARGET).program)


def test_floats_stay_floats() -> None:
    graph = floats(SHAPES["bias"])
    only_cache = replace(STATIC, weights=F16, embeddings=F16, activations="none")
    after = quantize(graph, only_cache, statics=measured(graph, "prefill", IDS))
    ops = order(all_outputs(after))
    assert not any(isinstance(op, Quantize) for op in ops)
    assert all(op.cache.static for op in ops if isinstance(op, Cache))


def test_dynamic_activations_with_a_static_cache() -> None:
    graph = floats(SHAPES["bias"])
    scheme = replace(STATIC, activations="dynamic")
    after = coded_graph(graph, scheme, measured(graph, "prefill", IDS))
    quantised = [op for op in order(all_outputs(after)) if isinstance(op, Quantize)]
    assert quantised and all(op.static is None for op in quantised)
    check(lower(after, TARGET).program)


def test_what_was_not_measured_is_named() -> None:
    graph = floats(SHAPES["bias"])
    statics = measured(graph, "prefill", IDS)
    inputs = {name: codes for name, codes in statics.inputs.items() if "down" not in name}
    with pytest.raises(IRError, match="no static codes were measured for the input of"):
        quantize(graph, STATIC, statics=Statics(inputs, statics.caches))
    caches = {key: codes for key, codes in statics.caches.items() if key != (1, KVKind.V)}
    with pytest.raises(IRError, match="no static codes were measured for V of layer 1"):
        quantize(graph, STATIC, statics=Statics(statics.inputs, caches))


def test_a_shared_input_has_one_code() -> None:
    x = Input("x", 64)
    draw = Draw()
    outputs: tuple[Op, ...] = tuple(Linear(x, draw.coded(name, 8, 64, 8)) for name in ("a", "b"))
    graph = Graph({"main": outputs}, {"main": ("a", "b")})
    same = quantize(graph, STATIC, statics=Statics({"a": Static(0.5, 3), "b": Static(0.5, 3)}))
    assert len({id(linear.x) for linear in linears(same).values()}) == 1
    with pytest.raises(IRError, match="shares its input"):
        quantize(graph, STATIC, statics=Statics({"a": Static(0.5, 3), "b": Static(0.5, 4)}))


def test_text_shows_the_codes() -> None:
    graph = floats(SHAPES["tied"])
    text = dump(coded_graph(graph, STATIC, measured(graph, "prefill", IDS)))
    assert "static=" in text and "int8_static[" in text


def test_chunks_change_no_bit() -> None:
    graph = floats(SHAPES["window"])
    after = coded_graph(graph, STATIC, measured(graph, "prefill", IDS))
    kept = Constants(keep=True)
    whole, _ = evaluate(after, "prefill", IDS, State.empty(), logit_rows=24, constants=kept)
    state, rows = State.empty(), []
    for start, stop in ((0, 1), (1, 9), (9, 24)):
        logits, state = evaluate(
            after, "prefill", IDS[start:stop], state, logit_rows=stop - start, constants=kept
        )
        rows.append(logits)
    np.testing.assert_array_equal(np.concatenate(rows), whole)
