"""What makes a program of a float graph: coded, lowered and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hearth.compiler.dump import Dump, DumpOptions
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.tensors import QuantisedSource, Source
from hearth.compiler.ir.verify import verify
from hearth.compiler.job import Options
from hearth.compiler.lora.record import Recorded, record, refused
from hearth.compiler.lower import Lowered, lower
from hearth.compiler.package import Native
from hearth.compiler.passes import QUANTISED_PASSES, run_passes
from hearth.compiler.provenance import is_onnx
from hearth.compiler.quantize import Statics, quantize
from hearth.compiler.quantize.schemes import Methods, Scheme
from hearth.runtime.verify.plan import check
from hearth.schemas.commands import KVScheme
from hearth.schemas.manifest import ModelKind

SILENT = Dump(DumpOptions())


@dataclass(frozen=True, eq=False)
class Maker:
    """Of `graph`, under static codes; `given` are weights that calibration has coded, by name."""

    name: str
    model: SourceModel
    options: Options
    skip: frozenset[str]
    graph: Graph
    given: Mapping[str, QuantisedSource | Source] = field(default_factory=dict)
    threads: int = 0

    def native(self, statics: Statics, dumped: Dump = SILENT) -> tuple[Graph, Native]:
        """The coded graph, and all that its archive is packed from."""
        scheme, target = self.options.scheme, self.options.target
        graph = quantize(self.graph, scheme, self.given, statics, self.threads)
        verify(graph)
        dumped.graph("quantize", graph)
        graph = run_passes(QUANTISED_PASSES, graph, self.skip, dumped.graph)
        lowered = lower(graph, target)
        dumped.program("lower", lowered)
        check(lowered.program)
        recorded = _recorded(self.model, self.graph, graph, lowered)
        return graph, Native(self.name, self.model, scheme, target, lowered, recorded)

    def draft(self, scheme: Scheme | None = None) -> Native:
        """One of the same size, for nothing is measured or read for it: its activations are floats."""
        scheme = self.options.scheme if scheme is None else scheme
        kv = KVScheme.INT8 if scheme.kv is KVScheme.INT8_STATIC else scheme.kv
        plain = replace(scheme, activations="none", kv=kv, methods=Methods())
        made = replace(self, options=replace(self.options, scheme=plain), given={})
        return made.native(Statics())[1]


def _recorded(
    model: SourceModel, float_graph: Graph, graph: Graph, lowered: Lowered
) -> Recorded | None:
    """What adapters must know of a decoder's linears."""
    if model.kind is not ModelKind.DECODER:
        return None
    if is_onnx(model.files):
        return refused("it was made of an ONNX model, whose weights have no modules' names")
    return record(model.graph, float_graph, graph, lowered)
