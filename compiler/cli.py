"""`hearth compile`: a checkpoint directory, or a recipe, becomes one archive."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from errno import ENAMETOOLONG
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.runtime.commands.terminal import emit, emit_json
from hearth.runtime.options import read_options
from hearth.schemas.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from hearth.compiler.check.accuracy import Accuracy
    from hearth.compiler.check.inputs import CheckOptions
    from hearth.compiler.frontend import SourceModel
    from hearth.compiler.job import CompileReport
    from hearth.compiler.memory import Prediction
    from hearth.schemas.recipe import Gate, Recipe

MAX_THREADS = 256
LIMITS = {"min_top1": (0, 1, "0 to 1"), "max_bits": (1, 32, "1 to 32")}


def compile_command(
    source: Annotated[
        str | None,
        typer.Argument(help="Hugging Face directory, or ONNX file or directory", metavar="SRC"),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="the .har file to write")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="f32, f16, int8, int2 to int6, nf4, or lut2 to lut6")
    ] = None,
    embeddings: Annotated[
        str | None, typer.Option(help="as --weights; int8 where those are codes")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help="32 (the default), 64 or 128, below 8 bits")
    ] = None,
    activations: Annotated[str | None, typer.Option(help="none, dynamic, static or auto")] = None,
    kv: Annotated[str | None, typer.Option(help="f32, f16, int8 or int8-static")] = None,
    context: Annotated[int | None, typer.Option(help="positions the KV cache holds")] = None,
    pooling: Annotated[
        str | None, typer.Option(help="the vector of a text: mean, cls, last, max or none")
    ] = None,
    target: Annotated[str | None, typer.Option(help="x86-64-v3, x86-64-avx512vnni, ...")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="comma list: gptq, gptaq, lwc, importance, smoothquant, quarot, rotate-down, tune"
        ),
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(help="PATTERN=SCHEME: weights of that name, as layers.0.*=int6_g64"),
    ] = None,
    calibration: Annotated[str | None, typer.Option(help="a text to calibrate on")] = None,
    calibration_windows: Annotated[int | None, typer.Option(help="windows of it; 32")] = None,
    calibration_context: Annotated[int | None, typer.Option(help="tokens in one; 512")] = None,
    calibration_range: Annotated[
        str | None, typer.Option(help="static ranges: minmax, percentile or least-squares")
    ] = None,
    work: Annotated[
        str | None, typer.Option(help="folder of what a killed compile goes on from")
    ] = None,
    prompt_cache: Annotated[
        str | None,
        typer.Option(help="a system message, or its file: read now, kept in the archive"),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with defaults for the rest")
    ] = None,
    dump: Annotated[
        Path | None,
        typer.Option(help="folder for the text of every step, and its ONNX below 64 MiB"),
    ] = None,
    dump_onnx: Annotated[
        list[str] | None, typer.Option(help="a step whose ONNX is dumped at any size")
    ] = None,
    skip_pass: Annotated[list[str] | None, typer.Option(help="leave out a pass")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="run the source too, and say how far the archive is")
    ] = False,
    check_text: Annotated[
        Path | None, typer.Option(help="a text to check with; else a few of hearth's own")
    ] = None,
    check_tokens: Annotated[int | None, typer.Option(help="tokens to check with; 256")] = None,
    max_error: Annotated[
        float | None, typer.Option(help="fail above this error, relative to the largest output")
    ] = None,
    max_kld: Annotated[
        float | None, typer.Option(help="fail above this mean divergence (nats)")
    ] = None,
    min_top1: Annotated[
        float | None, typer.Option(help="fail below this share of equal best tokens")
    ] = None,
    max_ppl_increase: Annotated[
        str | None, typer.Option(help="fail above this increase of perplexity: 1% or 0.01")
    ] = None,
    max_bits: Annotated[
        float | None, typer.Option(help="at most these bits per weight, with scales")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="HEARTH_THREADS, else the cores there are")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines for programs")] = False,
) -> None:
    """Compile a model into one archive."""
    given = {
        "source": source, "output": output, "weights": weights, "embeddings": embeddings,
        "group_size": group_size, "activations": activations, "kv": kv, "context": context,
        "pooling": pooling, "target": target, "method": method, "tensors": tensor_schemes(tensor),
        "calibration": calibration, "calibration_windows": calibration_windows,
        "calibration_context": calibration_context, "calibration_range": calibration_range, "work": work,
        "prompt_cache": prompt_text(prompt_cache),
    }  # fmt: skip
    gate = {
        "max_error": max_error, "max_kld": max_kld, "min_top1": min_top1,
        "max_ppl_increase": share(max_ppl_increase), "max_bits": max_bits,
    }  # fmt: skip
    job = Job(
        skip=frozenset(skip_pass or ()),
        dump=dump,
        dump_onnx=frozenset(dump_onnx or ()),
        check=check or check_text is not None or check_tokens is not None,
        check_text=check_text,
        check_tokens=check_tokens,
        threads=checked_threads(threads),
        as_json=as_json,
    )
    try:
        run(with_gate(read_wanted(recipe, given), gate), job)
    except MemoryError:
        raise ResourceError(
            "resource.memory",
            "there is no memory left",
            remedy="close other programs or raise the limit (ulimit -v, the control group)",
        ) from None


@dataclass(frozen=True)
class Job:
    """What a recipe does not say."""

    skip: frozenset[str] = frozenset()
    dump: Path | None = None
    dump_onnx: frozenset[str] = frozenset()
    check: bool = False
    check_text: Path | None = None
    check_tokens: int | None = None
    threads: int = 0
    as_json: bool = False


def checked_threads(given: int | None) -> int:
    """Threads to quantise with; 0: all cores."""
    threads = read_options(given, None).threads
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError("arguments.threads", f"{threads} threads", expected=f"1 to {MAX_THREADS}")
    return threads or 0


def read_wanted(recipe: Path | None, given: Mapping[str, Any]) -> Recipe:
    """The command line over the recipe file; paths in that file start from its folder."""
    from hearth.schemas.recipe import make_recipe, read_recipe

    flags = {name: value for name, value in given.items() if value is not None}
    if recipe is None:
        return make_recipe(flags, "command line")
    return read_recipe(recipe, flags)


def with_gate(recipe: Recipe, given: Mapping[str, float | None]) -> Recipe:
    """The command line's limits over the recipe's."""
    limits = {name: value for name, value in given.items() if value is not None}
    for name, value in limits.items():
        low, high, expected = LIMITS.get(name, (0, math.inf, "0 or more"))
        if not low <= value <= high:
            raise UsageError(
                "arguments.limit", f"--{name.replace('_', '-')} {value}", expected=expected
            )
    return replace(recipe, gate=replace(recipe.gate, **limits))


def tensor_schemes(given: list[str] | None) -> dict[str, str] | None:
    """The `tensors` of a recipe: its patterns and their schemes."""
    if given is None:
        return None
    found = [text.rpartition("=") for text in given]
    for pattern, _, scheme in found:
        if not pattern or not scheme:
            raise UsageError(
                "arguments.tensor", f"--tensor {pattern or scheme}", expected="PATTERN=SCHEME"
            )
    return {pattern: scheme for pattern, _, scheme in found}


def prompt_text(given: str | None) -> str | None:
    """A text, or what is in the file of that name."""
    try:
        if given is None or not Path(given).is_file():
            return given
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
            return given
        raise UsageError(
            "usage.prompt_cache",
            f"--prompt-cache {given[:80] if given else ''}: {error}",
            expected="a text, or a file of UTF-8",
        ) from None


def share(text: str | None) -> float | None:
    """A number, or one of a hundred with a percent sign."""
    if text is None:
        return None
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise UsageError(
            "arguments.limit", f"--max-ppl-increase {text}", expected="1% or 0.01"
        ) from None


def checks(recipe: Recipe, job: Job) -> CheckOptions | None:
    """What to compare the archive with its source on; None where nothing asks for it."""
    from hearth.compiler.check.inputs import TOKENS, CheckOptions

    if not (job.check or checked_gate(recipe.gate).asks):
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


def compiler(recipe: Recipe, job: Job) -> Callable[..., CompileReport]:
    """What compiles: the pipeline once, or as often as a gate wants."""
    from hearth.compiler.pipeline import compile_model

    if not recipe.gate.allocates:
        return compile_model
    from hearth.compiler.job import calibration, options
    from hearth.compiler.judge.compile import Judged, compile_gated
    from hearth.compiler.judge.report import judged_json, judged_text

    def decided(found: Judged) -> None:
        emit_json(judged_json(found)) if job.as_json else emit(judged_text(found))

    text = calibration(recipe, options(recipe, job.skip).scheme)
    return partial(compile_gated, gate=recipe.gate, text=text, decided=decided)


def run(recipe: Recipe, job: Job) -> None:
    """Compile, and say what came of it."""
    from hearth.compiler import report
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
        options(recipe, job.skip),
        progress=choose(json_lines=job.as_json),
        announce=announce,
        compared=compared,
        dump=DumpOptions(job.dump, job.dump_onnx),
        checked=checks(recipe, job),
        threads=job.threads,
    )
    seconds = time.monotonic() - began
    if job.as_json:
        emit_json(report.report_json(made, seconds))
    else:
        emit(report.report_text(made, seconds))
