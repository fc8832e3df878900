"""Compiles under gates: bits are allocated and the archive measured, until the smallest that keeps them is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hearth.compiler import frontend
from hearth.compiler.calibrate.coded import file_hash
from hearth.compiler.calibrate.driver import Job
from hearth.compiler.calibrate.predict import forecast
from hearth.compiler.calibrate.settings import Calibration
from hearth.compiler.calibrate.steps import turned
from hearth.compiler.conduct import Conduct, announced
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.tensors import F32 as Rows
from hearth.compiler.job import CompileReport, Options, gains_apart
from hearth.compiler.judge.allocate import Allocation
from hearth.compiler.judge.gate import Decision, Judge, Measured, decide
from hearth.compiler.judge.needs import Judging
from hearth.compiler.judge.noise import every_row
from hearth.compiler.judge.sensitivity import codable, token_budget
from hearth.compiler.judge.table import CANDIDATES, Table, make_table
from hearth.compiler.judge.text import text_windows
from hearth.compiler.maker import Maker
from hearth.compiler.memory import Prediction, predicted, settle
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.pipeline import compile_model
from hearth.compiler.quantize.coding import coder
from hearth.compiler.quantize.schemes import F16, F32, LEARNED, Form, Methods, Scheme, WeightScheme
from hearth.runtime.archive import Archive
from hearth.runtime.evaluation import Window
from hearth.runtime.loader import load, model_of
from hearth.runtime.model import Model
from hearth.runtime.progress import step
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import InputError, LimitError, UsageError
from hearth.schemas.manifest import ModelKind
from hearth.schemas.provenance import Setting
from hearth.schemas.recipe import Gate

MOST_HELD_OUT, LEAST_HELD_OUT = 64, 4  # windows
FLOAT = Scheme(F32, F32, "none", KVScheme.F32)


@dataclass(frozen=True)
class Judged:
    """What was decided, and over which table."""

    decision: Decision
    table: Table
    windows: int
    context: int


def compile_gated(
    source: Path,
    output: Path,
    options: Options,
    conduct: Conduct,
    *,
    gate: Gate,
    text: Calibration,
    decided: Callable[[Judged], None] = lambda _: None,
) -> CompileReport:
    """Compile with bits allocated per weight, so that the archive keeps the gate, or nothing is left.

    `text` says what to calibrate on; the windows after those it names are what archives are measured on. `decided`
    hears of what was chosen and why, before LimitError gate.missed where nothing suffices. Every trial is conducted
    so; what all of them take is announced before the first.
    """
    options, threads = gains_apart(options), conduct.threads
    model, graph = _graph(source, options)
    prediction = _predicted(source, model, graph, options, gate, text, conduct)
    del model
    with TemporaryDirectory(prefix=f".{output.name}-", dir=output.absolute().parent) as name:
        folder = Path(name)
        float_options = replace(options, scheme=FLOAT, calibration=None, prompt=None, work=None)
        quiet = Conduct(threads, conduct.progress)
        compile_model(source, folder / "float.har", float_options, quiet)
        floats = load(folder / "float.har", threads or None)
        seen, held = _windows(floats, text)
        table = _table(graph, floats, options, seen, conduct)
        judge = Judge(floats, held, gate, conduct.progress)
        silent = replace(conduct, announce=None)
        trials = _Trials(source, folder, options, table, judge, text, silent)
        decision = decide(table.front, table.budget(gate.max_bits), gate, trials.run)
        decided(Judged(decision, table, len(held), len(held[0].ids)))
        if decision.taken is None:
            raise _missed(decision, table)
        report = trials.reports[decision.taken.allocation]
        os.replace(report.output, output)
    return replace(report, output=output, predicted_peak=prediction.peak)


def _predicted(
    source: Path,
    model: SourceModel,
    graph: Graph,
    options: Options,
    gate: Gate,
    text: Calibration,
    conduct: Conduct,
) -> Prediction:
    """ResourceError where memory does not suffice for any part of it."""
    make = Maker(source.name, model, options, options.skip, turned(graph, options.scheme))
    calibrating = 0
    if options.scheme.calibrated:
        ids = np.zeros((text.windows, min(text.context, model.context)), np.int32)
        job = Job(make.graph, options.scheme, ids, threads=conduct.threads)
        calibrating = forecast(job).nbytes
    judging = Judging(
        source, graph, replace(make, graph=graph).draft(FLOAT),
        [make.draft(scheme) for scheme in _extremes(options.scheme)],
        calibrating, text.windows, min(text.context, model.context),
        compared=gate.max_kld is not None or gate.min_top1 is not None,
        checked=0 if conduct.checked is None else conduct.checked.tokens,
        prompt=options.prompt,
    )  # fmt: skip
    return announced(model, predicted(judging.needs()), conduct)


def _extremes(scheme: Scheme) -> list[Scheme]:
    """Of what trials may be: the largest archive, and the codes that take most to find."""
    return [
        replace(scheme, weights=each, embeddings=each, overrides=()) for each in (F16, LEARNED[-1])
    ]


def _graph(source: Path, options: Options) -> tuple[SourceModel, Graph]:
    """What bits are allocated in: UsageError usage.gate where that is no decoder with a tokenizer."""
    model = frontend.load(source, context=options.context, kv=KVScheme.F32, pooling=options.pooling)
    if not isinstance(model, SourceModel) or model.kind is not ModelKind.DECODER:
        raise _not_a_decoder("this model is no decoder", source)
    if model.assets.tokenizer_json is None:
        raise _not_a_decoder("this model has no tokenizer", source)
    settle()
    return model, run_passes(FLOAT_PASSES, model.graph, options.skip)


def _not_a_decoder(found: str, source: Path) -> UsageError:
    return UsageError(
        "usage.gate",
        f"{found}, and a gate of perplexity or bits needs one",
        expected="a decoder with its tokenizer.json",
        where=str(source),
        remedy="give a weight scheme instead",
    )


def _windows(model: Model, text: Calibration) -> tuple[list[Window], list[Window]]:
    """(those to calibrate on, those held out); InputError input.held_out where the text ends too soon."""
    context = min(text.context, model.context)
    found = text_windows(model, text.text, context)
    held = found[text.windows :][:MOST_HELD_OUT]
    if len(held) < LEAST_HELD_OUT:
        raise InputError(
            "input.held_out",
            f"{len(found)} windows of {context} tokens, {text.windows} of which are calibrated on",
            expected=f"at least {LEAST_HELD_OUT} more, to measure archives on",
            where=str(text.text),
            remedy="give a longer text, or fewer --calibration-windows",
        )
    return found[: text.windows], held


def _table(
    graph: Graph,
    floats: Model,
    options: Options,
    seen: list[Window],
    conduct: Conduct,
) -> Table:
    weights, threads = codable(every_row(graph)), conduct.threads
    parameters = sum(int(np.prod(each.value.shape)) for each in weights.values())
    left, calls = token_budget(parameters, len(weights)), []
    for window in seen:
        if left > 0:
            calls.append({"tokens": window.ids[:left]})
            left -= len(window.ids)
    with step(conduct.progress, "sensitivity", len(weights)) as advance:
        return make_table(
            graph, floats.archive, options.scheme, options.target, calls,
            lambda rows, scheme: code(rows, scheme, threads), candidates=CANDIDATES, threads=threads,
            advance=advance,
        )  # fmt: skip


def code(rows: Rows, scheme: WeightScheme, threads: int) -> Rows:
    """What rows f32[n, K] become, rounded to nearest: methods move all schemes alike, as far as it matters here."""
    match scheme.form:
        case Form.FLOAT:
            return rows if scheme.bits == 32 else rows.astype(np.float16).astype(np.float32)
        case _:
            return coder(scheme, Methods(), None, rows, threads).rows(rows).dequantise()


@dataclass(eq=False)
class _Trials:
    """Compiles an allocation beside those before, and keeps what can still be the answer."""

    source: Path
    folder: Path
    options: Options
    table: Table
    judge: Judge
    text: Calibration
    conduct: Conduct
    reports: dict[Allocation, CompileReport] = field(default_factory=dict)

    def run(self, allocation: Allocation) -> Measured:
        number = len(self.reports)
        scheme = replace(self.options.scheme, overrides=self.table.overrides(allocation))
        work = self.folder / f"work-{number}"
        found: list[Measured] = []

        def judged(archive: Archive, bits: float) -> Mapping[str, Setting]:
            found.append(self.judge.measure(model_of(archive, self.conduct.threads or None), bits))
            return self._record(found[0])

        self.reports[allocation] = compile_model(
            self.source, self.folder / f"trial-{number}.har",
            replace(self.options, scheme=scheme, work=work), replace(self.conduct, judge=judged),
        )  # fmt: skip
        return found[0]

    def _record(self, measured: Measured) -> Mapping[str, Setting]:
        """For the archive's provenance: the limits, and what was measured on what."""
        gate = {name: value for name, value in vars(self.judge.gate).items() if value is not None}
        values = {name: value for name, value in vars(measured).items() if value is not None}
        windows = self.judge.windows
        return {
            **gate, **values, "windows": len(windows), "context": len(windows[0].ids),
            "first_window": self.text.windows, "sha256": file_hash(self.text.text),
        }  # fmt: skip


def _missed(decision: Decision, table: Table) -> LimitError:
    gate = decision.gate
    asked = ", ".join(
        f"{name} {value:g}" for name, value in vars(gate).items() if value is not None
    )
    if not decision.trials:
        least = 8 * (table.fixed_nbytes + table.front.least_nbytes) / table.parameters
        found = f"no allocation is that small: the least is {least:.2f} bits per weight"
    else:
        best = min(decision.trials, key=lambda trial: trial.measured.excess(gate))
        found = (
            f"the best of {len(decision.trials)} compiled: {best.measured.bits:.2f} bits per weight, "
            f"perplexity {best.measured.increase:+.2%} +- {best.measured.increase_error:.2%}"
        )
    return LimitError(
        "gate.missed",
        f"no archive keeps the gate ({asked}); {found}",
        remedy="allow more, or give a better --method or --activations none",
    )
