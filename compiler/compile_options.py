"""The options of `hearth compile`: what a recipe says too, limits, and what only the command line says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from errno import ENAMETOOLONG
from pathlib import Path
from typing import Annotated, Any

import typer

from hearth.runtime.options import read_options
from hearth.schemas.errors import UsageError, reason
from hearth.schemas.recipe import Recipe, make_recipe, read_recipe

MAX_THREADS = 256
LIMITS = {"min_top1": (0, 1, "0 to 1"), "max_bits": (1, 32, "1 to 32")}


@dataclass(frozen=True)
class RecipeOptions:
    """The keys of a recipe, which they go before."""

    source: Annotated[
        str | None,
        typer.Argument(help="Hugging Face directory, or ONNX file or directory", metavar="SRC"),
    ] = None
    output: Annotated[str | None, typer.Option("--output", "-o", help="the .har file to write")] = (
        None
    )
    weights: Annotated[
        str | None,
        typer.Option(help="int4 (the default), int8, f16, f32, int2 to int6, nf4, or lut2 to lut6"),
    ] = None
    embeddings: Annotated[
        str | None, typer.Option(help="as --weights; int8 where those are codes")
    ] = None
    group_size: Annotated[
        int | None, typer.Option(help="32 (the default), 64 or 128, below 8 bits")
    ] = None
    activations: Annotated[
        str | None,
        typer.Option(help="none, dynamic, static or auto; dynamic where weights are codes"),
    ] = None
    kv: Annotated[str | None, typer.Option(help="int8 (the default), int8-static, f16 or f32")] = (
        None
    )
    context: Annotated[
        int | None,
        typer.Option(help="positions the KV cache holds; those the model was trained for"),
    ] = None
    pooling: Annotated[
        str | None, typer.Option(help="the vector of a text: mean, cls, last, max or none")
    ] = None
    target: Annotated[
        str | None,
        typer.Option(help="native (the default), x86-64-v3, x86-64-avx512vnni or x86-64-amx"),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            help="comma list: gptq, gptaq, lwc, importance, smoothquant, quarot, rotate-down, tune, peaks"
        ),
    ] = None
    tensor: Annotated[
        list[str] | None,
        typer.Option(help="PATTERN=SCHEME: weights of that name, as layers.0.*=int6_g64"),
    ] = None
    calibration: Annotated[str | None, typer.Option(help="a text to calibrate on")] = None
    calibration_windows: Annotated[
        int | None, typer.Option(help="windows of the text to read; 32")
    ] = None
    calibration_context: Annotated[int | None, typer.Option(help="tokens of a window; 512")] = None
    calibration_range: Annotated[
        str | None, typer.Option(help="static ranges: minmax, percentile or least-squares")
    ] = None
    work: Annotated[
        str | None, typer.Option(help="folder of what a killed compile goes on from; OUTPUT.work")
    ] = None
    prompt_cache: Annotated[
        str | None,
        typer.Option(help="a system message, or its file: read now, kept in the archive"),
    ] = None

    def over(self, recipe: Path | None) -> Recipe:
        """With the recipe file's keys where these are silent; paths in that file start from its folder."""
        given = vars(self) | {
            "tensors": tensor_schemes(self.tensor),
            "prompt_cache": prompt_text(self.prompt_cache),
        }
        del given["tensor"]
        keys = {name: value for name, value in given.items() if value is not None}
        return make_recipe(keys, "command line") if recipe is None else read_recipe(recipe, keys)


@dataclass(frozen=True)
class GateOptions:
    """Limits that an archive has to keep."""

    max_error: Annotated[
        float | None, typer.Option(help="fail above this error, relative to the largest output")
    ] = None
    max_kld: Annotated[
        float | None, typer.Option(help="fail above this mean divergence (nats)")
    ] = None
    min_top1: Annotated[
        float | None, typer.Option(help="fail below this share of equal best tokens")
    ] = None
    max_ppl_increase: Annotated[
        str | None, typer.Option(help="fail above this increase of perplexity: 1% or 0.01")
    ] = None
    max_bits: Annotated[
        float | None, typer.Option(help="at most these bits per weight, with scales")
    ] = None

    def over(self, recipe: Recipe) -> Recipe:
        """The recipe with these limits before its own; UsageError `arguments.limit` for one out of range."""
        given: dict[str, Any] = vars(self) | {"max_ppl_increase": share(self.max_ppl_increase)}
        limits = {name: value for name, value in given.items() if value is not None}
        for name, value in limits.items():
            low, high, expected = LIMITS.get(name, (0, math.inf, "0 or more"))
            if not low <= value <= high:
                raise UsageError(
                    "arguments.limit", f"--{name.replace('_', '-')} {value}", expected=expected
                )
        return replace(recipe, gate=replace(recipe.gate, **limits))


@dataclass(frozen=True)
class JobOptions:
    """What no recipe says: what is shown, dumped and checked."""

    dump: Annotated[
        Path | None,
        typer.Option(help="folder for the text of every step, and its ONNX below 64 MiB"),
    ] = None
    dump_onnx: Annotated[
        list[str] | None, typer.Option(help="a step whose ONNX is dumped at any size")
    ] = None
    skip_pass: Annotated[list[str] | None, typer.Option(help="leave out a pass")] = None
    check: Annotated[
        bool, typer.Option("--check", help="run the source too, and say how far the archive is")
    ] = False
    check_text: Annotated[
        Path | None, typer.Option(help="a text to check with; else a few of hearth's own")
    ] = None
    check_tokens: Annotated[int | None, typer.Option(help="tokens to check with; 256")] = None
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines for programs")] = False

    @property
    def checks(self) -> bool:
        """Whether the archive is to be compared with its source."""
        return self.check or self.check_text is not None or self.check_tokens is not None


def checked_threads(given: int | None) -> int:
    """Threads to quantise with; 0: all cores."""
    threads = read_options(given, None).threads
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError("arguments.threads", f"{threads} threads", expected=f"1 to {MAX_THREADS}")
    return threads or 0


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
            f"--prompt-cache {given[:80] if given else ''}: {reason(error)}",
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
