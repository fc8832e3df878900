"""What the archive of a general graph is made of."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.lower import Lowered
from hearth.compiler.lower.targets import Target
from hearth.compiler.package import Package, Part, scheme_names, weight_chunks, weights_index
from hearth.compiler.quantize.schemes import Scheme
from hearth.compiler.segments.build import Built
from hearth.schemas import __version__, sections
from hearth.schemas.codec import dumps
from hearth.schemas.features import required_features
from hearth.schemas.manifest import Manifest, ModelKind
from hearth.schemas.program import Rows
from hearth.schemas.sections import Kind

FAMILY = "onnx"


@dataclass(frozen=True)
class GraphPackage:
    """A graph cut and its native parts lowered: everything that its sections are made of."""

    name: str  # of the source, never a path
    source: GraphSource
    scheme: Scheme
    target: Target
    built: Built
    lowered: Lowered


def graph_package(graph: GraphPackage) -> Package:
    """The sections, the weights of the native parts and the tensors of the others last."""
    built, lowered = graph.built, graph.lowered
    small = (
        Part.of(sections.MANIFEST, Kind.MANIFEST, dumps(_manifest(graph))),
        Part.of(sections.PROGRAM, Kind.PROGRAM, dumps(lowered.program)),
        Part.of(sections.KV_LAYOUT, Kind.KV_LAYOUT, dumps(lowered.kv_layout)),
        Part.of(sections.WEIGHTS_INDEX, Kind.WEIGHTS_INDEX, dumps(weights_index(lowered))),
        Part.of(sections.GRAPH, Kind.GRAPH, dumps(built.plan)),
        *(Part.of(name, Kind.ONNX, data) for name, data in built.segments.items()),
    )
    weights = Part(
        sections.weights_section(graph.target.name),
        Kind.WEIGHTS,
        lowered.program.weights_nbytes,
        lambda: weight_chunks(lowered),
    )
    held = built.tensors
    tensors = Part(sections.TENSORS, Kind.TENSORS, held.nbytes, held.chunks)
    parts = (*small, weights, tensors) if held.tensors else (*small, weights)
    stored = sum(part.nbytes for part in parts if part.kind in (Kind.ONNX, *sections.LARGE))
    parameters = graph.source.parameters
    features = required_features(lowered.program)
    return Package(parts, parameters, 8 * stored / max(parameters, 1), features)


def _manifest(graph: GraphPackage) -> Manifest:
    entries = graph.lowered.program.entries
    return Manifest(
        hearth=__version__,
        kind=ModelKind.GRAPH,
        family=FAMILY,
        source=graph.name,
        fingerprint=graph.source.fingerprint,
        dims=None,
        embedding=None,
        context=0,
        chunk=max((entry.max_rows[Rows.T] for entry in entries.values()), default=0),
        schemes=scheme_names(graph.scheme),
        targets=(graph.target.name,),
        entries=tuple(entries),
        parameters=graph.source.parameters,
        bos=None,
        eos=(),
    )
