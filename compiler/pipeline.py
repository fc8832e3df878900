"""The whole compiler as one page of named steps: a model becomes an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.compiler import frontend
from hearth.compiler.calibrate.steps import (
    Coded,
    code,
    read_text,
    require_decoder,
    transformed,
)
from hearth.compiler.calibrate.tokens import Text
from hearth.compiler.check.compare import comparison
from hearth.compiler.conduct import QUIET, Conduct
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
from hearth.runtime.progress import Progress
from hearth.runtime.verify.plan import check
from hearth.schemas.commands import KVScheme
from hearth.schemas.manifest import ModelKind
from hearth.schemas.provenance import Provenance, Setting, SourceFile

if TYPE_CHECKING:
    from hearth.compiler.frontend.onnx.graph_source import GraphSource


def compile_model(
    source: Path, output: Path, options: Options, conduct: Conduct = QUIET
) -> CompileReport:
    """Compile a checkpoint directory or an ONNX model into one archive: all of it, or nothing is left."""
    skip, dumped = _skipped(options), Dump(conduct.dump)
    require_output(source, output)
    model = _load(source, options)
    if not isinstance(model, SourceModel):
        from hearth.compiler.segments.compile import compile_graph

        require_decoder(ModelKind.GRAPH, options.scheme)
        compare = comparison(source, options, conduct)
        return compile_graph(source, _name(source), model, output, options, conduct, compare)
    text = read_text(model, options)
    graph, notes = _floats(model, options, skip, text, conduct, dumped)
    coded = None if text is None else code(source, model, graph, options, text, conduct)
    make = _Maker(_name(source), model, options, skip, graph, coded, conduct.threads)
    statics, chosen_note = _statics(make, conduct.progress)
    graph, native = make.native(statics, dumped)
    package, prediction = native_package(native), _predicted(native, conduct)
    require_disk(output, package)
    published = _published(source, output, make, native, package, conduct)
    if coded is not None:
        coded.work.remove()
        prediction = max(prediction, coded.prediction, key=lambda each: each.peak)
    notes = (*notes, *chosen_note, *exact_notes(graph))
    return _report(output, package, native.lowered, prediction, published, notes)


def _load(source: Path, options: Options) -> SourceModel | GraphSource:
    kv = options.scheme.kv
    model = frontend.load(
        source,
        context=options.context,
        kv=KVScheme.F32 if kv is KVScheme.INT8_STATIC else kv,  # until its codes are measured
        pooling=options.pooling,
    )
    require_prompt(model, options.prompt)
    return model


def _floats(
    model: SourceModel,
    options: Options,
    skip: frozenset[str],
    text: Text | None,
    conduct: Conduct,
    dumped: Dump,
) -> tuple[Graph, tuple[str, ...]]:
    """The graph that is coded, and what its rotation brings with it."""
    dumped.graph("frontend", model.graph)
    verify(model.graph)
    exact = run_passes(FLOAT_PASSES, model.graph, skip, dumped.graph)
    graph = transformed(exact, options.scheme, text, conduct.progress, conduct.threads)
    if graph is not exact:
        verify(graph)
        dumped.graph("transform", graph)
    return graph, rotation_notes(exact, graph)


def _predicted(native: Native, conduct: Conduct) -> Prediction:
    """ResourceError where that much memory is not there."""
    prediction = predict(native.lowered, 0 if conduct.checked is None else conduct.checked.tokens)
    if conduct.announce is not None:
        conduct.announce(native.model, prediction)
    require(prediction)
    return prediction


def _published(
    source: Path, output: Path, make: _Maker, native: Native, package: Package, conduct: Conduct
) -> Published:
    """The archive written; its record says what the judge found."""
    judged: dict[str, Setting] = {}
    ask, options = conduct.judge, make.options

    def judge(archive: Archive) -> None:
        if ask is not None:
            judged.update(ask(archive, package.bits_per_weight))

    def recorded(files: tuple[SourceFile, ...], written: Mapping[str, str]) -> Provenance:
        facts = None if make.coded is None else make.coded.text.facts
        return native_record(
            native, files, written, sorted(make.skip), facts, judged, options.prompt
        )

    publication = Publication(
        source, output, package, make.model.files, recorded,
        comparison(source, options, conduct), judge, prompt=options.prompt,
    )  # fmt: skip
    return publish(publication, conduct.progress, conduct.threads)


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
