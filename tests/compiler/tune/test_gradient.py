"""Gradients of weights and gains: those of finite differences; ops without any are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import gpt2
from support.checkpoint import Shape
from support.checkpoint import write_checkpoint as qwen2
from support.checkpoints import QWEN3, write_checkpoint

from hearth.compiler import frontend
from hearth.compiler.calibrate.stages import every_row
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Activate, Hadamard, Linear
from hearth.compiler.ir.tensors import F32, Source, read
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.transform import rotate_down
from hearth.compiler.tune.fit import loss
from hearth.compiler.tune.gradient import Network
from hearth.schemas.commands import Activation, KVScheme
from hearth.schemas.errors import UsageError

IDS = np.array([5, 9, 2, 30, 9, 1, 17], np.int32)


GPT2S: dict[str, Mapping[str, Any]] = {
    "gpt2": gpt2.GPT2,
    "gpt2, erf": {**gpt2.GPT2, "activation_function": "gelu"},
    "gpt2, relu": {**gpt2.GPT2, "activation_function": "relu"},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    found = {"qwen2": qwen2(folder / "qwen2", Shape(hidden=16, layers=1, heads=2, kv_heads=1))}
    found["qwen3"] = write_checkpoint(folder / "qwen3", QWEN3)
    for name, config in GPT2S.items():
        found[name] = write_checkpoint(folder / name, config, gpt2.random_tensors(config))
    return found


def test_a_rotation_has_the_gradient_of_differences(tmp_path: Path) -> None:
    """Of a factor that is not symmetric: 48 = 12 x 4 columns."""
    shape = Shape(hidden=16, layers=1, heads=2, kv_heads=1, ffn=48)
    graph = rotate_down(graph_of(qwen2(tmp_path / "source", shape)))
    network = Network(every_row(graph, "prefill")[0])
    assert any(isinstance(op, Hadamard) and op.signs is not None for op in network.sequence)
    check_gradients(network)


def graph_of(source: Path) -> Graph:
    model = frontend.load(source, context=32, kv=KVScheme.F32, pooling=None)
    assert isinstance(model, SourceModel)
    return run_passes(FLOAT_PASSES, model.graph, frozenset(("fold-norm-gain",)))


def values_of(network: Network) -> dict[str, F32]:
    found = {}
    for each in network.constants:
        assert isinstance(each.value, Source)
        found[each.name] = read(each.value)
    return found


@pytest.mark.parametrize("source", ["qwen2", "qwen3", *GPT2S])
def test_forward_is_the_graph(source: str, sources: dict[str, Path]) -> None:
    graph = graph_of(sources[source])
    network = Network(every_row(graph, "prefill")[0])
    found = network.run(IDS, values_of(network)).result
    wanted, _ = evaluate(graph, "prefill", IDS, State.empty(), logit_rows=len(IDS))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("source", ["qwen2", "qwen3", "gpt2", "gpt2, erf"])  # smooth functions
def test_gradients_are_those_of_differences(source: str, sources: dict[str, Path]) -> None:
    check_gradients(Network(every_row(graph_of(sources[source]), "prefill")[0]))


def check_gradients(network: Network) -> None:
    """Of every weight and gain, along a random way."""
    floats = values_of(network)
    wanted = network.run(IDS, floats).result
    random = np.random.default_rng(1)
    values = {
        name: each * random.uniform(0.9, 1.1, each.shape).astype(np.float32)
        if name in network.weights
        else each
        for name, each in floats.items()
    }
    run, found = network.run(IDS, values), dict[str, F32]()
    run.gradients(loss(wanted, run.result)[1], found)
    assert set(found) == network.weights and not run.values
    for name in network.weights:
        way = random.standard_normal(values[name].shape).astype(np.float32)
        way *= np.float32(3e-3) * np.abs(values[name]).mean()
        sides = [
            loss(wanted, network.run(IDS, values | {name: values[name] + side * way}).result)[0]
            for side in (1, -1)
        ]
        predicted = float((found[name] * way).sum(dtype=np.float64))
        scale = float(np.linalg.norm(found[name]) * np.linalg.norm(way)) / np.sqrt(way.size)
        assert abs((sides[0] - sides[1]) / 2 - predicted) <= 0.05 * max(abs(predicted), scale)


def test_what_has_no_gradient_is_refused(sources: dict[str, Path]) -> None:
    logits = every_row(graph_of(sources["qwen2"]), "prefill")[0]
    assert isinstance(logits, Linear)
    for op in (
        Activate(logits, Activation.TANH),
        Linear(logits.x, logits.weight, activation=Activation.TANH),
    ):
        with pytest.raises(UsageError) as caught:
            Network(op)
        assert caught.value.code == "calibration.tune"
