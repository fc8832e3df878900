"""onnxruntime against `evaluate`, op by op: each op is evaluated on the very operands that onnxruntime had.

So no error accumulates, a rounding flip in one op does not excuse the next, and a failure names the op.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.arithmetic import static_scales
from hearth.compiler.ir.evaluate import Constants, State
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.meanings import Codes, Run, meaning
from hearth.compiler.ir.ops import Cache, Constant, Input, KVWrite, Op, Position, Tokens
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.state import Stored
from hearth.compiler.ir.to_onnx import export, to_onnx
from hearth.compiler.ir.to_onnx.initializers import InMemory
from hearth.compiler.ir.types import CacheType
from hearth.compiler.ir.verify import describe
from support.bounds import BOUNDS, CodedBound
from support.onnx_run import OnnxState, run_onnx, session

SOURCES = (Tokens, Input, Position, Cache, Constant)


@dataclass
class Agreement:
    """One entry as onnxruntime runs it, with every op watched, and what was seen so far."""

    graph: Graph
    entry: str
    logit_rows: int = 1
    constants: Constants = field(default_factory=lambda: Constants(keep=True))
    flips: int = 0
    worst: dict[str, float] = field(default_factory=dict)  # by op type: |difference| / bound

    def __post_init__(self) -> None:
        self.sequence = order(self.graph.entries[self.entry])
        watch = [op for op in self.sequence if not isinstance(op, SOURCES)]
        exported = export(
            self.graph, self.entry, InMemory(), logit_rows=self.logit_rows, watch=watch
        )
        self.names = exported.watched
        self.watched = session(exported.model, optimise=False)
        self.plain = session(
            to_onnx(self.graph, self.entry, logit_rows=self.logit_rows), optimise=False
        )

    def check(self, tokens: NDArray[Any] | list[int], state: State, **ports: NDArray[Any]) -> State:
        """One call from one state, every op within its bound; the state after, as onnxruntime has it."""
        ids = np.asarray(tokens)
        before = OnnxState(state.position, self._past(state))
        results, _ = run_onnx(self.watched, ids, before, ports)
        plain, _ = run_onnx(self.plain, ids, before, ports)
        for name in self.graph.names(self.entry):
            np.testing.assert_array_equal(plain[name], results[name])
        inputs = {"tokens": ids.astype(np.int64), **ports}
        run = Run(inputs, state, self.constants, self.logit_rows)
        for op in self.sequence:
            expected = meaning(op, run)
            if isinstance(op, SOURCES):
                run.values[op] = expected
                continue
            got = [results[name] for name in self.names[op]]
            run.values[op] = self._compare(op, run, expected, got)
        return self._after(run)

    def _after(self, run: Run) -> State:
        caches = {}
        for op in self.graph.entries[self.entry][len(self.graph.names(self.entry)) :]:
            assert isinstance(op.type, CacheType)
            caches[op.type.layer, op.type.kind] = run.stored(op)
        return State(run.state.position + run.rows, caches)

    def _past(self, state: State) -> dict[str, NDArray[np.float32]]:
        return {
            f"past.{kind.name.lower()}.{layer}": stored.dequantised().transpose(1, 0, 2)[None]
            for (layer, kind), stored in state.caches.items()
        }

    def _compare(self, op: Op, run: Run, expected: Any, got: list[NDArray[Any]]) -> Any:
        bound = BOUNDS[type(op)](op, run, expected)
        match expected:
            case Codes():
                return self._compare_codes(op, expected, got[0], got[1][..., 0], bound)
            case Stored():
                return self._compare_stored(op, run, expected, got, bound)
        self._within(op, got[0], expected, bound)
        return got[0]

    def _compare_codes(self, op: Op, want: Codes, codes: Any, scale: Any, bound: Any) -> Codes:
        assert isinstance(bound, CodedBound)
        np.testing.assert_array_equal(codes, np.rint(codes))
        off = np.abs(codes - want.codes)
        assert np.all(off <= bound.flips), f"{describe(op)}: a code differs where it cannot"
        self.flips += int(np.count_nonzero(off))
        scale = np.broadcast_to(scale, want.scale.shape)
        self._within(op, scale, want.scale, bound.scale)
        return replace(want, codes=codes.astype(np.int8), scale=scale)

    def _compare_stored(
        self, op: Op, run: Run, want: Stored, got: list[NDArray[Any]], bound: Any
    ) -> Stored:
        assert isinstance(op, KVWrite)
        present = got[0][0].transpose(1, 0, 2)
        before = run.stored(op.cache).keep(run.state.position)
        np.testing.assert_array_equal(present[: before.length], before.dequantised())
        new = slice(before.length, None)
        if want.static is not None:
            rows = Codes(want.values[new].astype(np.int8), static_scales(present[new], want.static))
            coded = self._compare_codes(
                op, rows, got[1][0].reshape(rows.codes.shape), got[2], bound
            )
            kept = Stored(coded.codes, static=want.static)
            np.testing.assert_array_equal(present[new], kept.dequantised())
            return before.append(kept)
        if want.scales is None:
            self._within(op, present[new], want.values[new], bound)
            return Stored(present)
        rows = Codes(want.values[new].astype(np.int8), want.scales[new])
        coded = self._compare_codes(op, rows, got[1][0], got[2][0, ..., 0], bound)
        np.testing.assert_array_equal(present[new], coded.dequantised())
        return before.append(Stored(coded.codes, coded.scale))

    def _within(self, op: Op, got: Any, want: Any, bound: Any) -> None:
        assert got.shape == want.shape, f"{describe(op)}: {got.shape}, expected {want.shape}"
        off = np.abs(got.astype(np.float64) - want)
        bound = np.broadcast_to(bound, off.shape)
        assert np.all(np.isfinite(bound)), f"{describe(op)}: the bound is not finite"
        assert np.all(off <= bound), (
            f"{describe(op)}: off by {off.max()}, {(off / bound).max()} bounds"
        )
        share = np.divide(off, bound, out=np.zeros_like(off), where=bound > 0)
        name = type(op).__name__
        self.worst[name] = max(self.worst.get(name, 0.0), float(share.max(initial=0.0)))
