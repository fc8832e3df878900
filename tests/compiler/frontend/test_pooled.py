"""Decoders with a pooling: an entry for the rows before the head, which passes and transforms leave as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import LLAMA, QWEN2, write_checkpoint

from hearth.compiler.frontend import load
from hearth.compiler.frontend.source import SourceModel
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Linear
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.transform.smooth_decoder import smooth_decoder
from hearth.compiler.transform.stream import residual_stream
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError, UsageError
from hearth.schemas.manifest import Embedding

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def source(folder: Path, config: Any = LLAMA, pooling: Any = "last") -> SourceModel:
    write_checkpoint(folder, config)
    found = load(folder, context=None, kv=KVScheme.F32, pooling=pooling)
    assert isinstance(found, SourceModel)
    return found


def rows(graph: Graph, entry: str, count: int = len(IDS)) -> Any:
    return evaluate(graph, entry, IDS, State.empty(), logit_rows=count)[0]


@pytest.mark.parametrize("config", [LLAMA, QWEN2], ids=["llama", "qwen2"])
@pytest.mark.parametrize("skip", [(), ("last-rows",), ("cse", "last-rows")])
def test_the_rows_are_what_the_head_reads(
    config: Any, skip: tuple[str, ...], tmp_path: Path
) -> None:
    model = source(tmp_path, config)
    assert model.embedding == Embedding("last", False, 24)
    (head,) = (op for op in model.graph.entries["main"] if isinstance(op, Linear))
    wanted = rows(model.graph, "hidden")
    graph = run_passes(FLOAT_PASSES, model.graph, frozenset(skip))
    assert list(graph.entries) == ["prefill", "decode", "hidden"]
    np.testing.assert_allclose(rows(graph, "hidden"), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rows(graph, "hidden", 2), rows(graph, "hidden")[-2:])
    assert isinstance(head.weight, Constant)
    logits = wanted @ head.weight.value.rows(0, 53).T  # type: ignore[union-attr]
    np.testing.assert_allclose(rows(graph, "prefill"), logits, rtol=1e-4, atol=1e-5)


def test_a_decoder_of_which_nobody_wants_vectors_has_no_such_entry(tmp_path: Path) -> None:
    model = source(tmp_path, pooling=None)
    assert model.embedding is None and list(model.graph.entries) == ["main"]
    with pytest.raises(UsageError) as caught:
        source(tmp_path, pooling="none")
    assert caught.value.code == "usage.pooling"


def test_smoothing_leaves_the_rows_as_they_are(tmp_path: Path) -> None:
    """Trap: the last norm feeds the head alone in prefill, so its gain seems free to change."""
    graph = run_passes(FLOAT_PASSES, source(tmp_path).graph)
    rng = np.random.default_rng(0)
    linears = [op for op in order(all_outputs(graph)) if isinstance(op, Linear)]
    maxima = {
        op.weight.name: np.exp(4 * rng.standard_normal(op.weight.value.shape[1])).astype(np.float32)
        for op in linears
        if isinstance(op.weight, Constant)
    }
    smoothed = smooth_decoder(graph, maxima)
    assert smoothed is not graph
    verify(smoothed)
    for entry in ("hidden", "prefill"):
        np.testing.assert_allclose(rows(smoothed, entry), rows(graph, entry), rtol=1e-4, atol=1e-5)


def test_a_rotation_is_refused(tmp_path: Path) -> None:
    """It would turn the rows."""
    graph = run_passes(FLOAT_PASSES, source(tmp_path).graph)
    with pytest.raises(CheckpointError) as caught:
        residual_stream(graph)
    assert caught.value.code == "transform.rotate"
