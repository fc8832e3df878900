"""Gradients of weights and gains: those of finite differences; ops without any are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import QWEN3, write_checkpoint
from support.desk import Desk, make_desk

from hearth.compiler import frontend
from hearth.compiler.calibrate.stages import every_row
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Activate, Linear
from hearth.compiler.ir.tensors import F32, Source, read
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.tune.fit import loss
from hearth.compiler.tune.gradient import Network
from hearth.schemas.commands import Activation, KVScheme
from hearth.schemas.errors import UsageError

IDS = np.array([5, 9, 2, 30, 9, 1, 17], np.int32)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


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


@pytest.fixture(scope="module")
def sources(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    qwen3 = write_checkpoint(tmp_path_factory.mktemp("qwen3"), QWEN3)
    return {"llama": desk.source, "qwen3": qwen3}


FAMILIES = pytest.mark.parametrize("family", ["llama", "qwen3"])


@FAMILIES
def test_forward_is_the_graph(family: str, sources: Mapping[str, Path]) -> None:
    graph = graph_of(sources[family])
    network = Network(every_row(graph, "prefill")[0])
    found = network.run(IDS, values_of(network)).result
    wanted, _ = evaluate(graph, "prefill", IDS, State.empty(), logit_rows=len(IDS))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@FAMILIES
def test_gradients_are_those_of_differences(family: str, sources: Mapping[str, Path]) -> None:
    network = Network(every_row(graph_of(sources[family]), "prefill")[0])
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


def test_what_has_no_gradient_is_refused(desk: Desk) -> None:
    logits = every_row(graph_of(desk.source), "prefill")[0]
    assert isinstance(logits, Linear)
    for op in (
        Activate(logits, Activation.TANH),
        Linear(logits.x, logits.weight, activation=Activation.GELU),
    ):
        with pytest.raises(UsageError) as caught:
            Network(op)
        assert caught.value.code == "calibration.tune"
