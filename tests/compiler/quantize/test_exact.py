"""Linears of encoders that keep f32 rows: what is chosen, that it is measured exactly, and that decoders have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.bert import BERT, random_tensors
from support.checkpoints import write_checkpoint
from support.graphs import Draw, Tiny, decoder

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.meanings import Codes
from hearth.compiler.ir.ops import Constant, Input, Linear, Quantize, tensor
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.exact import (
    BUDGET,
    SPOILT,
    Exact,
    Loss,
    chosen,
    exact_linears,
    exact_notes,
    worst_noise,
)
from hearth.compiler.quantize.schemes import INT4_G32, INT8, WeightScheme
from hearth.schemas.commands import KVScheme
from hearth.schemas.dtypes import DType

WIDE = {**BERT, "intermediate_size": 1000}  # rounding K channels loses at most K / (12 * 127^2)
IDS = np.random.default_rng(3).integers(0, 53, 12)
DOWN = "encoder.layer.0.output.dense.weight"
UP = "encoder.layer.0.intermediate.dense"


def encoder(directory: Path) -> Graph:
    """An encoder: one channel of a thousand behind the first GELU is 40 in every row."""
    tensors = random_tensors(WIDE)
    tensors[f"{UP}.weight"][3] = 0
    tensors[f"{UP}.bias"][3] = 40
    tensors[DOWN][:, 3] = 0
    write_checkpoint(directory, WIDE, tensors)
    return run_passes(FLOAT_PASSES, load(directory, context=None, kv=KVScheme.F32).graph)


def linears(graph: Graph) -> dict[str, Linear]:
    ops = (op for op in order(all_outputs(graph)) if isinstance(op, Linear))
    return {op.weight.name: op for op in ops if isinstance(op.weight, Constant)}


def hidden(graph: Graph) -> np.ndarray:
    given = {"tokens": IDS, "types": np.zeros(12, np.int64)}
    return run_entry(graph, "hidden", given)[0]["hidden"]


def test_nothing_is_chosen_within_the_budget() -> None:
    few = {name: Loss(BUDGET / 5, 8) for name in "abcde"}
    assert chosen(few) == Exact()
    assert chosen({}) == Exact()


def test_most_noise_per_multiplication_goes_first_until_the_rest_keeps_to_the_budget() -> None:
    losses = {
        "large": Loss(0.002, 1000),
        "small": Loss(0.002, 10),
        "smaller": Loss(0.002, 5),
        **{f"rest{i}": Loss(0.001, 1000) for i in range(7)},
    }
    assert chosen(losses) == Exact(frozenset({"small", "smaller"}), frozenset())


def test_a_spoilt_linear_keeps_its_weights_even_within_the_budget() -> None:
    found = chosen({"loud": Loss(SPOILT, 8), "quiet": Loss(SPOILT / 2, 8)})
    assert found == Exact(frozenset({"loud"}), frozenset({"loud"}))


def test_equal_losses_are_taken_by_name() -> None:
    names = [f"w{i}" for i in range(8)]
    found = chosen({name: Loss(0.002, 8) for name in reversed(names)})
    assert found.inputs == {"w0", "w1", "w2"}


def test_the_noise_is_that_of_the_worst_row() -> None:
    rows = np.array([[0, 0], [127, 0], [127, 0.25]], np.float32)
    codes = Codes(np.array([[0, 0], [127, 0], [127, 0]], np.int8), np.array([0, 1, 1], np.float32))
    assert worst_noise(rows, codes) == 0.25**2 / (127**2 + 0.25**2)


def test_a_loud_channel_behind_a_gelu_keeps_its_linear_exact(tmp_path: Path) -> None:
    graph = encoder(tmp_path)
    coded = quantize(graph, make_scheme(INT8, "dynamic", KVScheme.F32))
    verify(coded)
    found = linears(coded)
    assert tensor(found[DOWN].weight).dtype is DType.F16
    assert not isinstance(found[DOWN].x, Quantize)
    assert any(isinstance(op.x, Quantize) for op in found.values())
    assert exact_notes(coded)[0].startswith("1 of 8 linears read f32 rows, 1 of them with f16")
    assert exact_notes(graph) == ()


def test_the_error_shrinks(tmp_path: Path) -> None:
    graph = encoder(tmp_path)
    exact, scheme = hidden(graph), make_scheme(INT8, "dynamic", KVScheme.F32)
    error = np.abs(hidden(quantize(graph, scheme)) - exact).mean()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hearth.compiler.quantize.apply.exact_linears", lambda coded: Exact())
        throughout = quantize(graph, scheme)
    assert all(isinstance(op.x, Quantize) for op in linears(throughout).values())
    assert error < np.abs(hidden(throughout) - exact).mean()


def test_groups_of_four_bits_keep_their_codes(tmp_path: Path) -> None:
    coded = quantize(encoder(tmp_path), make_scheme(INT4_G32, "dynamic", KVScheme.F32))
    found = linears(coded)[DOWN]
    assert tensor(found.weight).dtype is DType.W4
    assert not isinstance(found.x, Quantize)


@pytest.mark.parametrize("weights", [INT8, INT4_G32], ids=["int8", "int4"])
def test_a_decoder_reads_codes_everywhere(weights: WeightScheme) -> None:
    graph = run_passes(FLOAT_PASSES, decoder(Tiny()))
    coded = quantize(graph, make_scheme(weights, "dynamic", KVScheme.F32))
    assert exact_linears(coded) == Exact()
    assert all(isinstance(op.x, Quantize) for op in linears(coded).values())


def test_a_part_of_a_general_graph_is_not_measured() -> None:
    draw, x = Draw(), Input("x", 8)
    graph = Graph({"main": (Linear(x, draw.weight("w", 8, 8)),)}, {"main": ("y",)})
    coded = quantize(graph, make_scheme(INT8, "dynamic"))
    assert isinstance(linears(coded)["w"].x, Quantize)
    assert exact_linears(coded) == Exact()
