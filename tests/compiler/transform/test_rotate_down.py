"""The online rotation: one op per layer, the same function through numpy, onnxruntime and the engine's arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.data import checkpoint
from support.graphs import Draw, Tiny, decoder
from support.onnx_run import OnnxState, run_onnx, session
from support.smoothing import loudness, maxima

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Hadamard, Linear
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.ir.verify import verify
from hearth.compiler.lower import lower
from hearth.compiler.lower.targets import TARGETS
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import INT8
from hearth.compiler.transform import rotate, rotate_down, smooth_decoder
from hearth.runtime.verify.plan import check
from hearth.schemas.commands import Activation, KVScheme
from hearth.schemas.errors import CheckpointError

IDS = np.random.default_rng(3).integers(0, 53, 20)
CLOSE = 1e-5


def fused(graph: Graph, *skip: str) -> Graph:
    return run_passes(FLOAT_PASSES, graph, frozenset(skip))


def logits(graph: Graph, entry: str = "prefill", count: int = 20) -> np.ndarray:
    return run_entry(graph, entry, {"tokens": IDS[:count]})[0]["logits"]


def assert_same_function(before: Graph, after: Graph) -> None:
    verify(after)
    for entry, count in (("prefill", 20), ("decode", 1)):
        expected = logits(before, entry, count)
        found = logits(after, entry, count)
        assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


def turned(graph: Graph, entry: str = "prefill") -> list[Hadamard]:
    return [op for op in order(graph.entries[entry]) if isinstance(op, Hadamard)]


@pytest.mark.parametrize(
    ("ffn", "factors"), [(36, (36, 1, 1)), (64, (1, 1, 64)), (240, (12, 20, 1)), (38, (1, 1, 2))]
)
def test_one_op_per_layer_and_the_function_stays(ffn: int, factors: tuple[int, int, int]) -> None:
    graph = fused(decoder(Tiny(ffn=ffn)))
    after = rotate_down(graph)
    assert_same_function(graph, after)
    for entry in ("prefill", "decode"):
        assert [(op.q, op.r, op.s) for op in turned(after, entry)] == [factors] * 2
    names = {op.name for op in order(all_outputs(after)) if isinstance(op, Constant)}
    assert (
        len(names - {op.name for op in order(all_outputs(graph)) if isinstance(op, Constant)}) <= 1
    )


@pytest.mark.parametrize("skip", ["fuse-gate", "merge-linears", "fuse-residual"])
def test_without_a_pass(skip: str) -> None:
    graph = fused(decoder(Tiny()), skip)
    after = rotate_down(graph)
    assert len(turned(after)) == 2
    assert_same_function(graph, after)


@pytest.mark.parametrize(
    ("tiny", "factors"),
    [
        (Tiny(1, 896, 14, 2, 64, 4864, 40, 16), (76, 1, 64)),
        (Tiny(1, 1536, 12, 2, 128, 8960, 40, 16, bias=True), (20, 28, 16)),
    ],
    ids=["0.5B", "1.5B"],
)
def test_a_layer_of_a_published_shape(tiny: Tiny, factors: tuple[int, int, int]) -> None:
    """With both rotations; the ids are few, the weights as large as in the model."""
    graph = fused(decoder(tiny))
    after = rotate_down(rotate(graph))
    assert [(op.q, op.r, op.s) for op in turned(after)] == [factors]
    verify(after)
    expected, found = (
        run_entry(each, "prefill", {"tokens": IDS[:3] % 40})[0]["logits"] for each in (graph, after)
    )
    assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


def test_an_odd_width_stays_as_it_is() -> None:
    graph = fused(decoder(Tiny(ffn=37)))
    assert rotate_down(graph) is graph


def test_with_smoothing_and_the_offline_rotation() -> None:
    graph = fused(decoder(Tiny(ffn=96, tied=False, bias=True)))
    smoothed = smooth_decoder(graph, maxima(graph, IDS), norms=False)
    assert_same_function(graph, rotate_down(rotate(smoothed)))


def test_other_activations_are_turned_too() -> None:
    """A rotation after the function: nothing has to pass through it."""
    graph = fused(decoder(Tiny(layers=1)))
    half: dict[str, Constant] = {}

    def plain(op: Any) -> Any:
        match op:
            case Linear(activation=Activation.SWIGLU):
                weight = half.setdefault("up", Draw(1).weight("up", 36, 24))
                return replace(op, weight=weight, activation=Activation.GELU)
        return None

    graph = rewrite(graph, plain)
    after = rotate_down(graph)
    assert len(turned(after)) == 1
    assert_same_function(graph, after)


def test_coded_weights_are_refused() -> None:
    graph = fused(decoder(Tiny(layers=1)))
    draw = Draw()

    def coded(op: Any) -> Any:
        match op:
            case Constant(name=name) if name.endswith("down_proj.weight"):
                return draw.grouped(name, *op.value.shape, 4, 16)
        return None

    with pytest.raises(CheckpointError, match="came quantised"):
        rotate_down(rewrite(graph, coded))


@pytest.mark.parametrize("ffn", [36, 240, 256])
def test_onnxruntime_agrees(ffn: int) -> None:
    graph = rotate_down(fused(decoder(Tiny(ffn=ffn))))
    found, _ = run_onnx(session(to_onnx(graph, "prefill")), IDS, OnnxState())
    expected = logits(graph)
    assert np.abs(found["logits"] - expected).max() <= CLOSE * np.abs(expected).max()


def test_one_command_more_per_layer() -> None:
    graph = fused(decoder(Tiny()))
    programs = []
    for each in (graph, rotate_down(graph)):
        coded = run_passes(QUANTISED_PASSES, quantize(each, make_scheme(INT8)))
        programs.append(lower(coded, TARGETS["x86-64-v3"]).program)
        check(programs[-1])
    for entry in ("prefill", "decode"):
        before, after = (
            [each.op for each in program.entries[entry].commands] for program in programs
        )
        assert after.count("hadamard") == 2
        assert [op for op in after if op != "hadamard"] == before


def test_the_input_of_down_gets_quieter() -> None:
    graph = fused(load(checkpoint("stories3M-outlier"), context=64, kv=KVScheme.F32).graph)
    after = rotate_down(graph)
    assert_same_function(graph, after)
    before = maxima(graph, IDS)
    assert loudness(maxima(after, IDS), "down_proj") < 0.1 * loudness(before, "down_proj")
