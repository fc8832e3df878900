"""A general graph becomes an archive: cut, its native parts lowered, written, its golden vectors made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.job import CompileReport, Options, Packed
from hearth.compiler.lower import Lowered
from hearth.compiler.memory import status_nbytes
from hearth.compiler.package import require_disk
from hearth.compiler.provenance import arena_facts, packages
from hearth.compiler.publish import Publication, publish
from hearth.compiler.segments.build import Built, build, wanted_nodes
from hearth.compiler.segments.package import GraphPackage, graph_package
from hearth.runtime.progress import Progress, Silent
from hearth.schemas import __version__
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.program import Program
from hearth.schemas.provenance import Provenance, Setting, SourceFile


def compile_graph(
    source: Path,
    name: str,
    graph: GraphSource,
    output: Path,
    options: Options,
    *,
    progress: Progress | None = None,
    threads: int = 0,
) -> CompileReport:
    """The archive of a graph that was not raised whole. `source` is its path, `name` what it is called."""
    nodes = wanted_nodes(graph.model)
    built = build(graph, [None] * len(nodes), nodes)
    lowered = _lower(built)
    made = GraphPackage(name, graph, options.scheme, options.target, built, lowered)
    package = graph_package(made)
    require_disk(output, package)
    publication = Publication(
        source,
        output,
        package,
        graph.files,
        lambda files: _provenance(made, files, sorted(options.skip)),
        named=bool(
            built.tensors.tensors
        ),  # onnxruntime maps large tensors by the name of their file
    )
    published = publish(publication, progress or Silent(), threads)
    sizes = output.stat().st_size, package.weights_nbytes
    plans = lowered.plans.values()
    return CompileReport(
        output=output,
        packed=Packed(*sizes, package.parameters, package.bits_per_weight),
        arena_nbytes=max((plan.nbytes for plan in plans), default=0),
        arena_lower_bound=max((plan.lower_bound for plan in plans), default=0),
        kv_nbytes=0,
        commands={key: len(entry.commands) for key, entry in lowered.program.entries.items()},
        predicted_peak=0,
        measured_peak=status_nbytes("VmHWM"),
        notes=(*graph.notes, *published.notes),
    )


def _lower(built: Built) -> Lowered:
    return Lowered(Program({}, 0, 0, 0), (), KVLayout((), 0), {})


def _recipe(made: GraphPackage) -> Mapping[str, Setting]:
    """Every key that decides bytes."""
    scheme = made.scheme
    return {
        "weights": scheme.weights.name,
        "embeddings": scheme.embeddings.name,
        "group_size": scheme.weights.group or None,
        "activations": scheme.activations,
        "kv": scheme.kv.name.lower(),
        "context": None,
        "pooling": None,
        "target": made.target.name,
        "method": "rtn",
    }


def _provenance(
    made: GraphPackage, files: tuple[SourceFile, ...], skipped: list[str]
) -> Provenance:
    return Provenance(
        hearth=__version__,
        packages=packages(True),
        source=made.name,
        fingerprint=made.source.fingerprint,
        files=files,
        recipe=_recipe(made),
        skipped_passes=tuple(skipped),
        calibration=None,
        arena=arena_facts(made.lowered.plans),
    )
