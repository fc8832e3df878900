"""Loud channels of shared norms: the float meaning stays, the factors are powers of two, others are left alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bert import BERT, random_tensors
from support.checkpoints import write_checkpoint
from support.graphs import Draw, Tiny, decoder

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Add, Constant, Input, LayerNorm, LayerNormQuantize, Linear
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import read
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import INT8
from hearth.compiler.quantize.smooth import smooth
from hearth.schemas.commands import KVScheme

IDS = np.random.default_rng(3).integers(0, 53, 12)
LOUD = 5


def loud_tensors() -> dict[str, np.ndarray]:
    """A channel hundreds of times louder than the median, which the next weights hardly read."""
    tensors = random_tensors(BERT)
    for name in tensors:
        if name.endswith("LayerNorm.weight"):
            tensors[name][LOUD] *= 200
    for name in tensors:
        if name.endswith(
            ("query.weight", "key.weight", "value.weight", "intermediate.dense.weight")
        ):
            tensors[name][:, LOUD] /= 200
    return tensors


def encoder(directory: Path, tensors: Mapping[str, Any]) -> Graph:
    write_checkpoint(directory, BERT, tensors)
    return run_passes(FLOAT_PASSES, load(directory, context=None, kv=KVScheme.F32).graph)


def hidden(graph: Graph) -> np.ndarray:
    given = {"tokens": IDS, "types": np.zeros(12, np.int64)}
    return run_entry(graph, "hidden", given)[0]["hidden"]


def test_the_float_meaning_stays_to_the_bit_of_the_scaling(tmp_path: Path) -> None:
    graph = encoder(tmp_path, loud_tensors())
    smoothed = smooth(graph, graph)
    assert smoothed is not graph
    verify(smoothed)
    # powers of two scale exactly, and numpy multiplies the same pairs in the same order
    np.testing.assert_array_equal(hidden(smoothed), hidden(graph))


def test_factors_are_powers_of_two_and_quieten_the_loud_channel(tmp_path: Path) -> None:
    graph = encoder(tmp_path, loud_tensors())
    smoothed = smooth(graph, graph)
    gains = {
        op.gain.name: read(op.gain.value)
        for op in order(all_outputs(smoothed))
        if isinstance(op, LayerNorm) and isinstance(op.gain, Constant)
    }
    copies = [name for name in gains if name.endswith("/s")]
    assert len(copies) == 2 * BERT["num_hidden_layers"]
    for name in copies:
        s = gains[name.removesuffix("/s")] / gains[name]
        exponents = np.log2(s)
        assert np.array_equal(exponents, np.rint(exponents)) and s.min() >= 1
        assert s.argmax() == LOUD and s[LOUD] >= 64


def test_it_is_closer_to_the_float_graph(tmp_path: Path) -> None:
    graph = encoder(tmp_path, loud_tensors())
    exact = hidden(graph)
    scheme = make_scheme(INT8, "dynamic", KVScheme.F32)
    smoothed = quantize(graph, scheme)
    error = np.abs(hidden(smoothed) - exact).mean()
    fused = run_passes(QUANTISED_PASSES, smoothed)
    count = sum(isinstance(op, LayerNormQuantize) for op in order(all_outputs(fused)))
    assert count == 2 * BERT["num_hidden_layers"]
    np.testing.assert_array_equal(hidden(fused), hidden(smoothed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hearth.compiler.quantize.apply.smooth", lambda graph, coded: graph)
        plain = quantize(graph, scheme)
    assert error < 0.3 * np.abs(hidden(plain) - exact).mean()


def test_a_decoder_has_no_such_norm() -> None:
    graph = run_passes(FLOAT_PASSES, decoder(Tiny()))
    assert smooth(graph, graph) is graph


def test_without_loud_channels_nothing_changes(tmp_path: Path) -> None:
    tensors = random_tensors(BERT)
    for name, values in tensors.items():
        if name.endswith("LayerNorm.weight"):
            values[:] = 1
        if name.endswith(".bias"):
            values[:] = 0
    graph = encoder(tmp_path, tensors)
    smoothed = smooth(graph, graph)
    widest = [
        (read(op.x.gain.value)).min()
        for op in order(all_outputs(smoothed))
        if isinstance(op, Linear) and isinstance(op.x, LayerNorm) and op.x.gain is not None
    ]
    assert all(gain >= 0.25 for gain in widest)


def test_a_part_of_a_general_graph_is_left_alone() -> None:
    draw, x = Draw(), Input("x", 8)
    norm = LayerNorm(x, draw.constant("gain", 8), None, 1e-5)
    y = Add(norm, Linear(norm, draw.weight("w", 8, 8)))
    graph = Graph({"main": (y,)}, {"main": ("y",)})
    assert smooth(graph, graph) is graph
