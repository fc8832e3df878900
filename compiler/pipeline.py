"""The whole compiler as one page of named steps: a model becomes an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.compiler import frontend
from hearth.compiler.calibrate.predict import Forecast
from hearth.compiler.calibrate.steps import (
    Coded,
    code,
    expect,
    read_text,
    require_decoder,
    transformed,
    turned,
)
from hearth.compiler.calibrate.tokens import Text
from hearth.compiler.check.compare import comparison
from hearth.compiler.conduct import QUIET, Conduct, announced
from hearth.compiler.dump import Dump
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.verify import verify
from hearth.compiler.job import CompileReport, Options, Packed, gains_apart
from hearth.compiler.judge.activations import chosen
from hearth.compiler.lower import Lowered
from hearth.compiler.maker import Maker
from hearth.compiler.memory import Need, Prediction, predicted, settle, status_nbytes
from hearth.compiler.needs import after_engine, native_needs
from hearth.compiler.package import Native, Package, native_package, require_disk, require_output
from hearth.compiler.passes import FLOAT_PASSES, check_skip, run_passes
from hearth.compiler.prompt import require_prompt
from hearth.compiler.provenance import native_record
from hearth.compiler.publish import Publication, Published, publish
from hearth.compiler.quantize import Statics
from hearth.compiler.quantize.exact import exact_notes
from hearth.compiler.transform import rotation_notes
from hearth.runtime.archive import Archive
from hearth.runtime.progress import Progress
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
    exact = _exact(model, skip, dumped)
    draft = Maker(_name(source), model, options, skip, exact, threads=conduct.threads)
    ahead = None if text is None else _ahead(source, output, draft, text, conduct)
    graph = transformed(exact, options.scheme, text, conduct.progress, conduct.threads)
    coded = None
    if text is not None and ahead is not None:
        coded = code(source, model, graph, options, text, ahead.forecast, conduct)
    make = _maker(draft, graph, coded, dumped)
    statics, chosen_note = _statics(make, coded, conduct.progress)
    graph, native = make.native(statics, dumped)
    package = native_package(native)
    require_disk(output, package)
    prediction = (
        ahead.prediction if ahead else _predicted(source, native, package, options.prompt, conduct)
    )
    published = _published(source, output, make, native, package, coded, conduct)
    if coded is not None:
        coded.work.remove()
    notes = (*rotation_notes(exact, make.graph), *chosen_note, *exact_notes(graph))
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
    settle()
    return model


def _exact(model: SourceModel, skip: frozenset[str], dumped: Dump) -> Graph:
    """The float graph before calibration."""
    dumped.graph("frontend", model.graph)
    verify(model.graph)
    return run_passes(FLOAT_PASSES, model.graph, skip, dumped.graph)


def _maker(draft: Maker, graph: Graph, coded: Coded | None, dumped: Dump) -> Maker:
    """Of the graph that is coded."""
    if graph is not draft.graph:
        verify(graph)
        dumped.graph("transform", graph)
    return replace(draft, graph=graph, given={} if coded is None else coded.calibrated.coded)


@dataclass(frozen=True)
class _Ahead:
    """What is known of a compile that calibrates before it does."""

    forecast: Forecast
    prediction: Prediction


def _ahead(source: Path, output: Path, make: Maker, text: Text, conduct: Conduct) -> _Ahead:
    """ResourceError where memory or disk do not suffice for any part of it."""
    graph = turned(make.graph, make.options.scheme)
    native = replace(make, graph=graph).draft()
    package, expected = native_package(native), expect(graph, make.options, text, conduct.threads)
    require_disk(output, package)
    needs = [
        Need("to calibrate and code", expected.nbytes),
        *after_engine(_needs(source, native, package, make.options.prompt, conduct)),
    ]
    prediction = announced(make.model, predicted(needs, expected.seconds), conduct)
    return _Ahead(expected, prediction)


def _predicted(
    source: Path, native: Native, package: Package, prompt: str | None, conduct: Conduct
) -> Prediction:
    """ResourceError where that much memory is not there."""
    needs = _needs(source, native, package, prompt, conduct)
    return announced(native.model, predicted(needs), conduct)


def _needs(
    source: Path, native: Native, package: Package, prompt: str | None, conduct: Conduct
) -> list[Need]:
    checked = 0 if conduct.checked is None else conduct.checked.tokens
    return native_needs(native, package, source, checked=checked, prompt=prompt)


def _published(
    source: Path,
    output: Path,
    make: Maker,
    native: Native,
    package: Package,
    coded: Coded | None,
    conduct: Conduct,
) -> Published:
    """The archive written; its record says what the judge found."""
    judged: dict[str, Setting] = {}
    ask, options = conduct.judge, make.options

    def judge(archive: Archive) -> None:
        if ask is not None:
            judged.update(ask(archive, package.bits_per_weight))

    def recorded(files: tuple[SourceFile, ...], written: Mapping[str, str]) -> Provenance:
        facts = None if coded is None else coded.text.facts
        return native_record(
            native, files, written, sorted(make.skip), facts, judged, options.prompt
        )

    publication = Publication(
        source, output, package, make.model.files, recorded,
        comparison(source, options, conduct), judge, prompt=options.prompt,
    )  # fmt: skip
    return publish(publication, conduct.progress, conduct.threads)


def _skipped(options: Options) -> frozenset[str]:
    """The passes left out: calibrated weights stay without norms' gains."""
    check_skip(options.skip)
    return (gains_apart(options) if options.scheme.methods.second_order else options).skip


def _statics(
    make: Maker, coded: Coded | None, progress: Progress
) -> tuple[Statics, tuple[str, ...]]:
    """The static codes, and under `auto` what was chosen."""
    if coded is None:
        return Statics(), ()
    calibrated, ids = coded.calibrated, coded.text.ids
    if not calibrated.loudest or ids.shape[1] < 2:
        return calibrated.statics, ()
    statics, choice = chosen(
        calibrated.statics, calibrated.loudest,
        lambda statics: native_package(make.native(statics)[1]),
        ids, coded.work.folder, progress, make.threads,
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
