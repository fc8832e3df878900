"""The passes and their order: data one can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes.cse import cse
from hearth.compiler.passes.dead import dead
from hearth.compiler.passes.fold import fold
from hearth.compiler.passes.fold_norm_gain import fold_norm_gain
from hearth.compiler.passes.fuse_activation import fuse_activation
from hearth.compiler.passes.fuse_bias import fuse_bias
from hearth.compiler.passes.fuse_gate import fuse_gate
from hearth.compiler.passes.fuse_norm_quantize import fuse_norm_quantize
from hearth.compiler.passes.fuse_residual import fuse_residual
from hearth.compiler.passes.fuse_rope import fuse_rope
from hearth.compiler.passes.last_rows import last_rows
from hearth.compiler.passes.merge_linears import merge_linears
from hearth.compiler.passes.split import split
from hearth.compiler.passes.tie import tie
from hearth.schemas.errors import UsageError


@dataclass(frozen=True)
class Pass:
    """Graph -> Graph; returns the same object when nothing changed. A required one cannot be switched off."""

    name: str
    run: Callable[[Graph], Graph]
    required: bool = False


FLOAT_PASSES: tuple[Pass, ...] = (
    Pass("fold", fold),
    Pass("tie", tie),
    Pass("fuse-bias", fuse_bias),
    Pass("fuse-gate", fuse_gate),
    Pass("merge-linears", merge_linears),
    Pass("fold-norm-gain", fold_norm_gain),
    Pass("fuse-activation", fuse_activation),
    Pass("fuse-residual", fuse_residual),
    Pass("fuse-rope", fuse_rope),
    Pass("split", split, required=True),
    Pass("last-rows", last_rows),
    Pass("cse", cse),
    Pass("dead", dead),
)
QUANTISED_PASSES: tuple[Pass, ...] = (
    Pass("share-quantize", cse),
    Pass("fuse-norm-quantize", fuse_norm_quantize),
)


def check_skip(skip: Iterable[str]) -> frozenset[str]:
    """The names of passes to leave out; UsageError `usage.pass` for one that is unknown or required."""
    names = frozenset(skip)
    allowed = [each.name for each in (*FLOAT_PASSES, *QUANTISED_PASSES) if not each.required]
    for name in sorted(names.difference(allowed)):
        raise UsageError(
            "usage.pass",
            f"pass {name!r} cannot be skipped",
            expected=f"one of {', '.join(allowed)}",
        )
    return names


def run_passes(
    passes: Iterable[Pass],
    graph: Graph,
    skip: frozenset[str] = frozenset(),
    observe: Callable[[str, Graph], None] | None = None,
) -> Graph:
    """Run in order, verify after each, show each result to `observe(name, graph)`."""
    for each in passes:
        if each.name in skip:
            continue
        graph = each.run(graph)
        verify(graph)
        if observe is not None:
            observe(each.name, graph)
    return graph
