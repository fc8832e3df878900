"""The whole compiler as one page of named steps: a model becomes an archive."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hearth.compiler import frontend
from hearth.compiler.calibrate.steps import Coded, code, read_text, require_decoder, transformed
from hearth.compiler.check.accuracy import Accuracy
from hearth.compiler.check.compare import comparison
from hearth.compiler.check.inputs import CheckOptions
from hearth.compiler.dump import Dump, DumpOptions
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.verify import verify
from hearth.compiler.job import CompileReport, Options, Packed, gains_apart
from hearth.compiler.judge.activations import chosen
from hearth.compiler.lora.record import Recorded, record, refused
from hearth.compiler.lower import Lowered, lower
from hearth.compiler.memory import Prediction, predict, require, status_nbytes
from hearth.compiler.package import Native, Package, native_package, require_disk, require_output
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, check_skip, run_passes
from hearth.compiler.prompt import require_prompt
from hearth.compiler.provenance import is_onnx, native_record
from hearth.compiler.publish import Publication, Published, publish
from hearth.compiler.quantize import Statics, quantize
from hearth.compiler.quantize.exact import exact_notes
from hearth.compiler.transform import rotation_notes
from hearth.runtime.archive import Archive
from hearth.runtime.progress import Progress, Silent
from hearth.runtime.verify.plan import check
from hearth.schemas.commands import KVScheme
from hearth.schemas.manifest import ModelKind
from hearth.schemas.provenance import Setting


def compile_model(
    source: Path,
    output: Path,
    options: Options,
    *,
    progress: Progress | None = None,
    announce: Callable[[SourceModel, Prediction], None] | None = None,
    dump: DumpOptions | None = None,
    checked: CheckOptions | None = None,
    compared: Callable[[Accuracy], None] | None = None,
    judge: Callable[[Archive, float], Mapping[str, Setting]] | None = None,
    threads: int = 0,
) -> CompileReport:
    """Compile a checkpoint directory or an ONNX model into one archive: all of it, or nothing is left.

    `announce` hears the predicted memory before the long part starts. With `checked` the archive is compared with its
    source before it gets its name, and `compared` hears of it; one that misses the gate is not kept. `judge` gets the
    archive and its bits per weight, and gives what its record says of them. The bytes depend neither on that, but for
    the record, nor on `threads` (0: all cores).
    """
    skip = _skipped(options)
    dumped, progress = Dump(dump or DumpOptions()), progress or Silent()
    require_output(source, output)
    compare = comparison(source, options, checked, compared, progress, threads)

    kv = options.scheme.kv
    model = frontend.load(
        source,
        context=options.context,
        kv=KVScheme.F32 if kv is KVScheme.INT8_STATIC else kv,  # until its codes are measured
        pooling=options.pooling,
    )
    require_prompt(model, options.prompt)
    if not isinstance(model, SourceModel):
        from hearth.compiler.segments.compile import compile_graph

        name = _name(source)
        require_decoder(ModelKind.GRAPH, options.scheme)
        return compile_graph(
            source, name, model, output, options,
            progress=progress, compare=compare, threads=threads,
        )  # fmt: skip
    dumped.graph("frontend", model.graph)
    verify(model.graph)

    graph = run_passes(FLOAT_PASSES, model.graph, skip, dumped.graph)
    text, exact = read_text(model, options), graph
    graph = transformed(graph, options.scheme, text, progress, threads)
    if graph is not exact:
        verify(graph)
        dumped.graph("transform", graph)
    notes = rotation_notes(exact, graph)
    coded = None
    if text is not None:
        tell = partial(announce, model) if announce is not None else None
        coded = code(source, model, graph, options, text, progress, threads, tell)
    make = _Maker(_name(source), model, options, skip, graph, coded, threads)
    statics, chosen_note = _statics(make, progress)
    graph, native = make.native(statics, dumped)
    lowered, package = native.lowered, native_package(native)
    prediction = predict(lowered, 0 if checked is None else checked.tokens)
    if announce is not None:
        announce(model, prediction)
    require(prediction)
    require_disk(output, package)

    judged: dict[str, Setting] = {}
    publication = Publication(
        source,
        output,
        package,
        model.files,
        lambda files, written: native_record(
            native,
            files,
            written,
            sorted(skip),
            None if text is None else text.facts,
            judged,
            options.prompt,
        ),
        compare,
        None if judge is None else lambda made: judged.update(judge(made, package.bits_per_weight)),
        prompt=options.prompt,
    )
    published = publish(publication, progress, threads)
    if coded is not None:
        coded.work.remove()
        prediction = max(prediction, coded.prediction, key=lambda each: each.peak)
    return _report(
        output, package, lowered, prediction, published, (*notes, *chosen_note, *exact_notes(graph))
    )


def _recorded(
    model: SourceModel, float_graph: Graph, graph: Graph, lowered: Lowered
) -> Recorded | None:
    """What adapters must know of a decoder's linears."""
    if model.kind is not ModelKind.DECODER:
        return None
    if is_onnx(model.files):
        return refused("it was made of an ONNX model, whose weights have no modules' names")
    return record(model.graph, float_graph, graph, lowered)


def _skipped(options: Options) -> frozenset[str]:
    """The passes left out: calibrated weights stay without norms' gains."""
    check_skip(options.skip)
    return (gains_apart(options) if options.scheme.methods.second_order else options).skip


@dataclass(frozen=True, eq=False)
class _Maker:
    """What makes a program of a float graph under static codes."""

    name: str
    model: SourceModel
    options: Options
    skip: frozenset[str]
    graph: Graph
    coded: Coded | None
    threads: int

    def native(self, statics: Statics, dumped: Dump) -> tuple[Graph, Native]:
        """The coded graph, and all that its archive is packed from."""
        scheme, target = self.options.scheme, self.options.target
        given = {} if self.coded is None else self.coded.calibrated.coded
        graph = quantize(self.graph, scheme, given, statics, self.threads)
        verify(graph)
        dumped.graph("quantize", graph)
        graph = run_passes(QUANTISED_PASSES, graph, self.skip, dumped.graph)
        lowered = lower(graph, target)
        dumped.program("lower", lowered)
        check(lowered.program)
        recorded = _recorded(self.model, self.graph, graph, lowered)
        return graph, Native(self.name, self.model, scheme, target, lowered, recorded)


def _statics(make: _Maker, progress: Progress) -> tuple[Statics, tuple[str, ...]]:
    """The static codes, and under `auto` what was chosen."""
    if make.coded is None:
        return Statics(), ()
    calibrated, ids = make.coded.calibrated, make.coded.text.ids
    if not calibrated.loudest or ids.shape[1] < 2:
        return calibrated.statics, ()
    silent = Dump(DumpOptions())
    statics, choice = chosen(
        calibrated.statics, calibrated.loudest,
        lambda statics: native_package(make.native(statics, silent)[1]),
        ids, make.coded.work.folder, progress, make.threads,
    )  # fmt: skip
    return statics, (choice.note,)


def _name(source: Path) -> str:
    """What the source is called, never where it lies."""
    return os.fsencode(source.resolve().name).decode("utf-8", "replace")


def _report(
    output: Path,
    package: Package,
    lowered: Lowered,
    prediction: Prediction,
    published: Published,
    notes: tuple[str, ...],
) -> CompileReport:
    program = lowered.program
    largest = max(lowered.plans.values(), key=lambda plan: plan.nbytes)
    sizes = output.stat().st_size, package.weights_nbytes
    return CompileReport(
        output=output,
        packed=Packed(*sizes, package.parameters, package.bits_per_weight),
        arena_nbytes=largest.nbytes,
        arena_lower_bound=largest.lower_bound,
        kv_nbytes=program.kv_nbytes,
        commands={name: len(entry.commands) for name, entry in program.entries.items()},
        predicted_peak=prediction.peak,
        measured_peak=status_nbytes("VmHWM"),
        notes=(*notes, *published.notes),
        accuracy=published.accuracy,
    )
