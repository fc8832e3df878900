"""A float graph gives the same bits in blocks of any size as in one piece, and holds one block's weights at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from support.bounds import gamma
from support.graphs import Tiny, decoder

from hearth.compiler.check import blocks
from hearth.compiler.check.blocks import run_blocks
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Linear, Tokens
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import ArraySource
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.runtime.graphs.onnx_engine import open_engine

CALLS = [np.array(ids, np.int32) for ids in ([3], [1, 4, 1, 5, 9], [2, 7, 1, 8, 2, 8, 1, 8, 2])]


def in_one_piece(graph: Graph, calls: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
    engine = open_engine(to_onnx(graph, "main").SerializeToString(), threads=1, optimise=False)
    shapes = {each.name: each.shape for each in engine.session.get_inputs()}
    feeds = {
        name: np.zeros((1, shape[1], 0, shape[3]), np.float32)
        for name, shape in shapes.items()
        if name.startswith("past.")
    }
    feeds["position"] = np.array(0, np.int64)
    return [engine.run({**feeds, "tokens": ids}, ["logits"])["logits"] for ids in calls]


@pytest.mark.parametrize("limit", [1 << 30, 20_000, 6_000])
@pytest.mark.parametrize("tied", [True, False])
def test_blocks_of_any_size_give_the_same_bits(
    limit: int, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LIMIT_NBYTES", limit)
    graph = decoder(Tiny(tied=tied))
    calls = [{"tokens": ids} for ids in CALLS]
    found = run_blocks(graph, "main", calls, threads=1, optimise=False)
    for (logits,), wanted in zip(found, in_one_piece(graph, CALLS), strict=True):
        np.testing.assert_array_equal(logits, wanted)


@pytest.mark.parametrize("limit", [1, 900, 1 << 20])
def test_a_wide_product_is_the_product(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece or at once, within the rounding of K products and sums."""
    monkeypatch.setattr(blocks, "LIMIT_NBYTES", limit)
    rng = np.random.default_rng(0)
    table, weight = (rng.standard_normal((53, 24)).astype(np.float32) for _ in range(2))
    x = Embedding(Constant("table", ArraySource(table)), Tokens())
    graph = Graph({"main": (Linear(x, Constant("head", ArraySource(weight))),)})
    for (found,), ids in zip(
        run_blocks(graph, "main", [{"tokens": ids} for ids in CALLS]), CALLS, strict=True
    ):
        rows, columns = table[ids].astype(np.float64), weight.T.astype(np.float64)
        bound = gamma(24) * (np.abs(rows) @ np.abs(columns))
        assert np.all(np.abs(found - rows @ columns) <= bound)


def test_each_block_holds_little_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMIT_NBYTES", 3_000)
    results = decoder(Tiny()).entries["main"][:1]
    largest = max(nbytes(op) for op in order(results))
    cut = list(blocks.blocks(results))
    assert len(cut) > 4
    assert max(sum(map(nbytes, block.ops)) for block in cut) <= 3_000 + 4 * largest
    made = [op for block in cut for op in block.ops if not isinstance(op, blocks.LEAVES)]
    assert len(made) == len(set(made)), "an op runs twice"


def nbytes(op: object) -> int:
    return 4 * int(np.prod(op.value.shape)) if isinstance(op, Constant) else 0


def test_progress_tells_every_constant() -> None:
    graph = decoder(Tiny())
    told: list[int] = []
    run_blocks(graph, "main", [{"tokens": CALLS[0]}], threads=1, advance=told.append)
    whole = sum(nbytes(op) // 4 for op in order(graph.entries["main"]))
    assert sum(told) == whole
