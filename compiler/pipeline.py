"""The whole compiler as one page of named steps: a checkpoint becomes an archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hearth.compiler import frontend
from hearth.compiler.dump import Dump, DumpOptions
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.ops import Graph
from hearth.compiler.ir.verify import verify
from hearth.compiler.lower import Lowered, check, lower
from hearth.compiler.lower.targets import Target
from hearth.compiler.memory import Prediction, predict, require, status_nbytes
from hearth.compiler.package import Package, Packed, require_disk, require_output, write_archive
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, check_skip, run_passes
from hearth.compiler.quantize import quantize
from hearth.compiler.quantize.schemes import Scheme
from hearth.runtime.progress import Progress, Silent


@dataclass(frozen=True)
class Options:
    """Everything that decides the bytes of the archive, but the source itself."""

    scheme: Scheme
    target: Target
    context: int | None = None
    skip: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CompileReport:
    """What was made, and what it took. Sizes in bytes."""

    output: Path
    packed: Packed
    arena_nbytes: int
    arena_lower_bound: int
    kv_nbytes: int
    commands: dict[str, int]
    predicted_peak: int
    measured_peak: int


def compile_model(
    source: Path,
    output: Path,
    options: Options,
    *,
    progress: Progress | None = None,
    announce: Callable[[SourceModel, Prediction], None] | None = None,
    dump: DumpOptions | None = None,
    threads: int = 0,
) -> CompileReport:
    """Compile a checkpoint directory into one archive: all of it, or nothing is left.

    `announce` hears the predicted memory before the long part starts. The bytes do not depend on `threads`
    (0: all cores).
    """
    skip = check_skip(options.skip)
    dumped = Dump(dump or DumpOptions())
    require_output(source, output)

    model = frontend.load(source, context=options.context, kv=options.scheme.kv)
    dumped.graph("frontend", model.graph)
    verify(model.graph)

    graph = run_passes(FLOAT_PASSES, model.graph, skip, dumped.graph)
    graph = _quantised(graph, options.scheme, threads, dumped)
    graph = run_passes(QUANTISED_PASSES, graph, skip, dumped.graph)

    lowered = lower(graph, options.target)
    dumped.program("lower", lowered)
    check(lowered.program)

    name = os.fsencode(source.resolve().name).decode("utf-8", "replace")
    package = Package(name, model, options.scheme, options.target, lowered, sorted(skip))
    prediction = predict(lowered.weights)
    if announce is not None:
        announce(model, prediction)
    require(prediction)
    require_disk(output, package)
    packed = write_archive(output, package, progress or Silent())
    return _report(output, packed, lowered, prediction)


def _quantised(graph: Graph, scheme: Scheme, threads: int, dumped: Dump) -> Graph:
    graph = quantize(graph, scheme, threads=threads)
    verify(graph)
    dumped.graph("quantize", graph)
    return graph


def _report(
    output: Path, packed: Packed, lowered: Lowered, prediction: Prediction
) -> CompileReport:
    program = lowered.program
    largest = max(lowered.plans.values(), key=lambda plan: plan.nbytes)
    return CompileReport(
        output=output,
        packed=packed,
        arena_nbytes=largest.nbytes,
        arena_lower_bound=largest.lower_bound,
        kv_nbytes=program.kv_nbytes,
        commands={name: len(entry.commands) for name, entry in program.entries.items()},
        predicted_peak=prediction.peak,
        measured_peak=status_nbytes("VmHWM"),
    )
