"""Runs an entry in numpy: `evaluate` gives a decoder's logits, `run_entry` the named results of any entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import ops
from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.meanings import Run, Value, meaning
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.state import State, Stored
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import KVKind

__all__ = ["Constants", "State", "evaluate", "run_entry"]

F32 = NDArray[np.float32]


Watch = Callable[[ops.Op, Value], None]


def _run(outputs: Sequence[ops.Op], run: Run, watch: Watch | None) -> None:
    """Evaluate in order; a value is dropped after its last use."""
    sequence = order(outputs)
    left: Counter[ops.Op] = Counter(outputs)
    for op in sequence:
        left.update(op.operands)
    for op in sequence:
        run.values[op] = value = meaning(op, run)
        if watch is not None:
            watch(op, value)
        for operand in op.operands:
            left[operand] -= 1
            if not left[operand]:
                del run.values[operand]


def _check_context(outputs: Sequence[ops.Op], run: Run) -> None:
    """The caches must hold the positions of this call."""
    end = run.state.position + run.rows
    for op in outputs:
        if isinstance(op.type, CacheType) and end > op.type.context:
            raise ValueError(f"{run.rows} tokens at {run.state.position} exceed {op.type}")


def evaluate(
    graph: Graph,
    entry: str,
    tokens: Sequence[int] | NDArray[Any],
    state: State,
    *,
    logit_rows: int = 1,
    constants: Constants | None = None,
) -> tuple[F32, State]:
    """The first result (a decoder's logits f32[rows, V]) and the state after the tokens.

    `logit_rows` is R, for entries that give the last R rows. Pass one `Constants(keep=True)` to
    many calls so that weights are read and quantised once.
    """
    inputs = {"tokens": np.asarray(tokens, np.int64).reshape(-1)}
    results, after = run_entry(
        graph, entry, inputs, state, logit_rows=logit_rows, constants=constants
    )
    return next(iter(results.values())), after


def run_entry(
    graph: Graph,
    entry: str,
    inputs: Mapping[str, NDArray[Any]],
    state: State | None = None,
    *,
    logit_rows: int = 1,
    constants: Constants | None = None,
    watch: Watch | None = None,
) -> tuple[dict[str, F32], State]:
    """The named results of an entry (matrices f32) for inputs by port, and the state after them.

    Ports of ids take whole numbers [T], others f32[T, columns]. Without a state the call starts at
    position 0, as every call of an encoder does. `watch` sees each op with its value.
    """
    outputs, names = graph.entries[entry], graph.names(entry)
    before = state or State.empty()
    run = Run(inputs, before, constants or Constants(), logit_rows)
    _check_context(outputs, run)
    _run(outputs, run, watch)
    caches: dict[tuple[int, KVKind], Stored] = dict(before.caches)
    for op in outputs[len(names) :]:
        if isinstance(op.type, CacheType):
            caches[op.type.layer, op.type.kind] = run.stored(op)
    results = {name: run.matrix(op) for name, op in zip(names, outputs, strict=False)}
    return results, State(before.position + run.rows, caches)
