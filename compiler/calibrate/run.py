"""One stage run in onnxruntime over all windows, with the weights it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.calibrate.stages import Stage
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Input, Op, PositionEmbedding, Tokens, tensor
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import Source
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.ir.types import Dim
from hearth.runtime.graphs.onnx_engine import OnnxEngine, open_engine

STAGE = "stage"
F32 = NDArray[np.float32]
Ids = NDArray[np.int32]
Replace = Callable[[Constant], Constant]


@dataclass(frozen=True, eq=False)
class Runner:
    """Runs stages over windows of ids i32[W, T]; matrices are f32[W * T, columns], window after window."""

    ids: Ids
    threads: int = 0

    def run(
        self, stage: Stage, wanted: Sequence[Op], values: Mapping[Op, F32], replace: Replace
    ) -> dict[Op, F32]:
        """The wanted matrices of a stage, from those it takes; `replace` gives the constants to compute with."""
        looked = {op: self._rows(op, replace) for op in stage.lookups}
        found = {op: looked[op] for op in wanted if op in looked}
        computed = [op for op in wanted if op not in looked]
        if not computed:
            return found
        takes = {f"in{place}": op for place, op in enumerate((*stage.takes, *stage.lookups))}
        gives = {f"out{place}": op for place, op in enumerate(computed)}
        engine = self._engine(takes, gives, replace)
        windows, length = self.ids.shape
        for op in computed:
            found[op] = np.empty((windows * length, columns_of(op)), np.float32)
        known = {**values, **looked}
        for window in range(windows):
            part = slice(window * length, (window + 1) * length)
            feeds = self._feeds(engine, {name: known[op][part] for name, op in takes.items()})
            for name, rows in engine.run(feeds, list(gives)).items():
                found[gives[name]][part] = rows
        return found

    def _engine(
        self, takes: Mapping[str, Op], gives: Mapping[str, Op], replace: Replace
    ) -> OnnxEngine:
        new: dict[Op, Op] = {op: _input(op, name) for name, op in takes.items()}
        for op in order(gives.values()):
            if op in new:
                continue
            if isinstance(op, Constant):
                new[op] = replace(op)
            else:
                new[op] = op.with_operands(tuple(new[each] for each in op.operands))
        outputs = tuple(new[op] for op in gives.values())
        model = to_onnx(Graph({STAGE: outputs}, {STAGE: tuple(gives)}), STAGE).SerializeToString()
        return open_engine(model, threads=self.threads, arena=False)

    def _feeds(
        self, engine: OnnxEngine, given: Mapping[str, F32]
    ) -> dict[str, NDArray[np.generic]]:
        """The matrices, the position, and caches without a past."""
        feeds: dict[str, NDArray[np.generic]] = {}
        for each in engine.session.get_inputs():
            if each.name in given:
                feeds[each.name] = given[each.name]
            elif each.name == "position":
                feeds[each.name] = np.array(0, np.int64)
            else:
                _, heads, _, head_dim = each.shape
                feeds[each.name] = np.zeros((1, heads, 0, head_dim), np.float32)
        return feeds

    def _rows(self, op: Op, replace: Replace) -> F32:
        """The rows of a table that the ids name, each read once; of positions the first."""
        assert isinstance(op, Embedding | PositionEmbedding)
        assert isinstance(op.table, Constant)
        table = replace(op.table).value
        assert isinstance(table, Source)
        windows, length = self.ids.shape
        if isinstance(op, PositionEmbedding):
            return np.tile(table.rows(0, length), (windows, 1))
        assert isinstance(op.tokens, Tokens)
        if op.tokens.port != "tokens":  # types of an encoder: all of the first text
            return np.repeat(table.rows(0, 1), windows * length, axis=0)
        unique, places = np.unique(self.ids, return_inverse=True)
        rows = np.concatenate([table.rows(int(each), int(each) + 1) for each in unique])
        return np.ascontiguousarray(rows[places.reshape(-1)])


def columns_of(op: Op) -> int:
    """The columns of a matrix."""
    columns = tensor(op).shape[1]
    assert isinstance(columns, int)
    return columns


def _input(op: Op, name: str) -> Input:
    return Input(name, columns_of(op), Dim.T)
