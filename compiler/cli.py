"""`hearth compile`: a checkpoint directory, or a recipe, becomes one archive."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hearth.compiler.compile_options import (
    GateOptions,
    JobOptions,
    RecipeOptions,
    checked_threads,
)
from hearth.runtime.commands.common_options import ThreadsOption
from hearth.runtime.commands.groups import spread
from hearth.runtime.commands.terminal import emit, emit_json
from hearth.schemas.errors import ResourceError

if TYPE_CHECKING:
    from hearth.compiler.check.accuracy import Accuracy
    from hearth.compiler.check.inputs import CheckOptions
    from hearth.compiler.conduct import Conduct
    from hearth.compiler.frontend import SourceModel
    from hearth.compiler.job import CompileReport, Options
    from hearth.compiler.memory import Prediction
    from hearth.schemas.recipe import Gate, Recipe


@spread
def compile_command(
    wanted: RecipeOptions,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with defaults for the rest")
    ] = None,
    *,
    job: JobOptions,
    gate: GateOptions,
    threads: ThreadsOption = None,
) -> None:
    """Compile a model into one archive."""
    count = checked_threads(threads)
    try:
        run(gate.over(wanted.over(recipe)), job, count)
    except MemoryError:
        raise ResourceError(
            "resource.memory",
            "there is no memory left",
            remedy="close other programs or raise the limit (ulimit -v, the control group)",
        ) from None


def checks(recipe: Recipe, job: JobOptions) -> CheckOptions | None:
    """What to compare the archive with its source on; None where nothing asks for it."""
    from hearth.compiler.check.inputs import TOKENS, CheckOptions

    if not (job.checks or checked_gate(recipe.gate).asks):
        return None
    tokens = TOKENS if job.check_tokens is None else job.check_tokens
    return CheckOptions(job.check_text, tokens, checked_gate(recipe.gate))


def checked_gate(gate: Gate) -> Gate:
    """What the check on inputs refuses by; limits that bits are allocated for are judged on the calibration's text."""
    return (
        replace(gate, max_kld=None, min_top1=None, max_ppl_increase=None, max_bits=None)
        if gate.allocates
        else gate
    )


Compiler = Callable[[Path, Path, "Options", "Conduct"], "CompileReport"]


def compiler(recipe: Recipe, job: JobOptions) -> Compiler:
    """What compiles: the pipeline once, or as often as a gate wants."""
    from hearth.compiler.pipeline import compile_model

    if not recipe.gate.allocates:
        return compile_model
    from hearth.compiler.job import calibration, options
    from hearth.compiler.judge.compile import Judged, compile_gated
    from hearth.compiler.judge.report import judged_json, judged_text

    def decided(found: Judged) -> None:
        emit_json(judged_json(found)) if job.as_json else emit(judged_text(found))

    text = calibration(recipe, options(recipe, frozenset(job.skip_pass or ())).scheme)
    return partial(compile_gated, gate=recipe.gate, text=text, decided=decided)


def run(recipe: Recipe, job: JobOptions, threads: int) -> None:
    """Compile, and say what came of it; 0 threads: all cores."""
    from hearth.compiler import report
    from hearth.compiler.conduct import Conduct
    from hearth.compiler.dump import DumpOptions
    from hearth.compiler.job import options
    from hearth.runtime.progress import choose

    began = time.monotonic()

    def announce(model: SourceModel, prediction: Prediction) -> None:
        if job.as_json:
            emit_json(report.prediction_json(prediction))
        else:
            emit(report.prediction_text(model, prediction))

    def compared(accuracy: Accuracy) -> None:
        if job.as_json:
            emit_json(report.accuracy_json(accuracy))
        else:
            emit(report.accuracy_text(accuracy))

    made = compiler(recipe, job)(
        Path(recipe.source),
        Path(recipe.output),
        options(recipe, frozenset(job.skip_pass or ())),
        Conduct(
            threads,
            choose(json_lines=job.as_json),
            announce,
            DumpOptions(job.dump, frozenset(job.dump_onnx or ())),
            checks(recipe, job),
            compared,
        ),
    )
    seconds = time.monotonic() - began
    if job.as_json:
        emit_json(report.report_json(made, seconds))
    else:
        emit(report.report_text(made, seconds))
