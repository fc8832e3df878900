"""Valid programs: tiny decoders lowered under any scheme, with any passes off."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hearth.compiler.ir.graph import Graph
from hearth.compiler.lower import Lowered, lower
from hearth.compiler.lower.targets import TARGETS
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import Scheme, quantize
from hearth.compiler.quantize.schemes import F32, INT4_G32, INT8
from hearth.schemas.commands import KVScheme
from support.graphs import Tiny, decoder

SWITCHABLE = tuple(p.name for p in (*FLOAT_PASSES, *QUANTISED_PASSES) if not p.required)
TARGET = TARGETS["x86-64-avx512vnni"]
FLOAT = Scheme(F32, F32, "none", KVScheme.F32)
INT4 = Scheme(INT4_G32, INT8, "dynamic", KVScheme.INT8)


def lowered(
    tiny: Tiny | None = None,
    skip: Iterable[str] = (),
    scheme: Scheme = INT4,
    chunk: int = 8,
    transform: Callable[[Graph], Graph] = lambda graph: graph,
) -> Lowered:
    """A tiny decoder all the way to its program."""
    tiny = tiny or Tiny(bias=True, tied=False, kv=scheme.kv)
    skipped = frozenset(skip)
    fused = transform(run_passes(FLOAT_PASSES, decoder(tiny), skipped))
    graph = quantize(fused, scheme, threads=1)
    return lower(run_passes(QUANTISED_PASSES, graph, skipped), TARGET, chunk)
