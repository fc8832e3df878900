"""A general graph becomes an archive: cut, its native parts lowered, written, its golden vectors made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hearth.compiler.check.accuracy import Accuracy
from hearth.compiler.conduct import QUIET, Conduct
from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.frontend.onnx.model import OnnxModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.job import CompileReport, Options, Packed
from hearth.compiler.lower import Lowered, lower
from hearth.compiler.memory import status_nbytes
from hearth.compiler.package import require_disk
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, check_skip, run_passes
from hearth.compiler.provenance import arena_facts, packages
from hearth.compiler.publish import Publication, Published, publish
from hearth.compiler.quantize import quantize
from hearth.compiler.quantize.schemes import F32, Scheme, kv_name
from hearth.compiler.segments.build import Built, build, known_types, wanted_nodes
from hearth.compiler.segments.facts import Facts
from hearth.compiler.segments.fold import fold_constants
from hearth.compiler.segments.islands import LEAST_SAVED, all_onnx, choose, island_graph
from hearth.compiler.segments.package import GraphPackage, graph_package
from hearth.runtime.archive import Archive
from hearth.runtime.progress import Progress
from hearth.runtime.verify.plan import check
from hearth.schemas import __version__
from hearth.schemas.errors import ArchiveError, CheckpointError
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.program import Program
from hearth.schemas.provenance import Provenance, Setting, SourceFile


def compile_graph(
    source: Path,
    name: str,
    graph: GraphSource,
    output: Path,
    options: Options,
    conduct: Conduct = QUIET,
    compare: Callable[[Archive], Accuracy] | None = None,
    *,
    least: int = LEAST_SAVED,
) -> CompileReport:
    """The archive of a graph that was not raised whole. `source` is its path, `name` what it is called.

    `least` is how many bytes of weights a native island must save.
    """
    folded = replace(graph, model=fold_constants(graph.model))
    built, native = _cut(folded, options.scheme, least)
    lowered = _lower(native, options, conduct.threads) if native.entries else NOTHING
    made = GraphPackage(name, graph, options.scheme, options.target, built, lowered)
    package = graph_package(made)
    require_disk(output, package)
    publication = Publication(
        source,
        output,
        package,
        graph.files,
        lambda files, written: _provenance(made, files, written, sorted(options.skip)),
        compare,
        named=bool(built.tensors.tensors),  # onnxruntime maps them by the name of their file
    )
    published = _publish(publication, conduct.progress, conduct.threads)
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
        accuracy=published.accuracy,
    )


def _publish(made: Publication, progress: Progress, threads: int) -> Published:
    """What onnxruntime refuses when the golden vectors are made is the model's fault."""
    try:
        return publish(made, progress, threads)
    except ArchiveError as error:
        if error.code != "archive.onnx":
            raise
        raise CheckpointError(
            "onnx.engine",
            error.found,
            expected="a model that onnxruntime runs",
            where=str(made.source),
            remedy="update onnxruntime, or export the model again",
        ) from None


# Merged linears make slices of one result, and a port takes no slice.
NOT_HERE = frozenset({"merge-linears"})
NOTHING = Lowered(Program({}, 0, 0, 0), (), KVLayout((), 0), {})


def _lower(graph: Graph, options: Options, threads: int) -> Lowered:
    """The native islands as a program."""
    skip = check_skip(options.skip) | NOT_HERE
    graph = run_passes(FLOAT_PASSES, graph, skip)
    graph = quantize(graph, options.scheme, threads=threads)
    lowered = lower(run_passes(QUANTISED_PASSES, graph, skip), options.target)
    check(lowered.program)
    return lowered


def _cut(graph: GraphSource, scheme: Scheme, least: int) -> tuple[Built, Graph]:
    """The plan, and the IR of its islands. Graphs that pass more than tensors between parts stay in one."""
    model, nodes = graph.model, wanted_nodes(graph.model)
    if scheme.weights.bits < F32.bits or least <= 0:
        facts = _facts(model)
        chosen = choose(model, nodes, facts, scheme, least) if facts else None
        if facts and chosen and chosen.natives:
            built = build(graph, nodes, chosen, facts.types)
            natives = {nodes[place]: each for place, each in chosen.natives.items()}
            return built, island_graph(model, built.islands, natives, facts)
    return build(graph, nodes, all_onnx(model, nodes), known_types(model, False)), Graph({})


def _facts(model: OnnxModel) -> Facts | None:
    """The types of all values; None where onnxruntime tells them only of the whole model as it is."""
    try:
        return Facts(model, known_types(model, True))
    except CheckpointError:
        return None


def _recipe(made: GraphPackage) -> Mapping[str, Setting]:
    """Every key that decides bytes."""
    scheme = made.scheme
    return {
        "weights": scheme.weights.name,
        "embeddings": scheme.embeddings.name,
        "group_size": scheme.weights.group or None,
        "activations": scheme.activations,
        "kv": kv_name(scheme.kv),
        "context": None,
        "pooling": None,
        "target": made.target.name,
        "method": scheme.methods.text,
    }


def _provenance(
    made: GraphPackage,
    files: tuple[SourceFile, ...],
    written: Mapping[str, str],
    skipped: list[str],
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
        sections=written,
    )
