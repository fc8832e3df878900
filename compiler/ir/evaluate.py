"""Runs an entry in numpy: `evaluate(graph, entry, tokens, state)` gives the logits and the next state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import ops
from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.meanings import Run, meaning
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.state import State, Stored
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import KVKind

__all__ = ["Constants", "State", "evaluate"]

F32 = NDArray[np.float32]


def _run(outputs: Sequence[ops.Op], run: Run) -> None:
    """Evaluate in order; a value is dropped after its last use."""
    sequence = order(outputs)
    left: Counter[ops.Op] = Counter(outputs)
    for op in sequence:
        left.update(op.operands)
    for op in sequence:
        run.values[op] = meaning(op, run)
        for operand in op.operands:
            left[operand] -= 1
            if not left[operand]:
                del run.values[operand]


def _check_context(outputs: Sequence[ops.Op], run: Run) -> None:
    """The caches must hold the positions of this call."""
    end = run.state.position + len(run.tokens)
    for op in outputs:
        if isinstance(op.type, CacheType) and end > op.type.context:
            raise ValueError(f"{len(run.tokens)} tokens at {run.state.position} exceed {op.type}")


def evaluate(
    graph: ops.Graph,
    entry: str,
    tokens: Sequence[int] | NDArray[Any],
    state: State,
    *,
    logit_rows: int = 1,
    constants: Constants | None = None,
) -> tuple[F32, State]:
    """Logits f32[rows, V] and the state after the tokens.

    `logit_rows` is R, for entries that give the last R rows. Pass one `Constants(keep=True)` to
    many calls so that weights are read and quantised once.
    """
    outputs = graph.entries[entry]
    ids = np.asarray(tokens, np.int64).reshape(-1)
    run = Run(ids, state, constants or Constants(), logit_rows)
    _check_context(outputs, run)
    _run(outputs, run)
    caches: dict[tuple[int, KVKind], Stored] = dict(state.caches)
    for op in outputs[1:]:
        if isinstance(op.type, CacheType):
            caches[op.type.layer, op.type.kind] = run.stored(op)
    return run.matrix(outputs[0]), State(state.position + len(ids), caches)
