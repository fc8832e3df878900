"""`hearth compile`: a checkpoint directory, or a recipe, becomes one archive."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hearth.compiler.memory import Prediction
    from hearth.compiler.pipeline import CompileReport, Options
    from hearth.schemas.recipe import Recipe


def compile_command(
    source: Annotated[
        str | None, typer.Argument(help="Hugging Face directory", metavar="SRC")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="the .har file to write")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="f32, f16, int8 or int4")] = None,
    embeddings: Annotated[
        str | None, typer.Option(help="f32, f16, int8 or int4; int8 for int4 weights")
    ] = None,
    group_size: Annotated[int | None, typer.Option(help="32, 64 or 128, for int4")] = None,
    activations: Annotated[str | None, typer.Option(help="none or dynamic")] = None,
    kv: Annotated[str | None, typer.Option(help="f32, f16 or int8")] = None,
    context: Annotated[int | None, typer.Option(help="positions the KV cache holds")] = None,
    target: Annotated[str | None, typer.Option(help="x86-64-v3, x86-64-avx512vnni, ...")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with defaults for the rest")
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(help="folder for text and ONNX of every step")
    ] = None,
    skip_pass: Annotated[list[str] | None, typer.Option(help="leave out a pass")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines for programs")] = False,
) -> None:
    """Compile a model into one archive."""
    given = {
        "source": source, "output": output, "weights": weights, "embeddings": embeddings,
        "group_size": group_size, "activations": activations, "kv": kv, "context": context,
        "target": target,
    }  # fmt: skip
    wanted = read_options(recipe, given)
    run(wanted, frozenset(skip_pass or ()), dump, as_json)


def read_options(recipe: Path | None, given: dict[str, Any]) -> Recipe:
    """The recipe's values with the command line's over them; a recipe's own paths start from its folder."""
    from hearth.schemas.recipe import make_recipe, read_recipe

    flags = {name: value for name, value in given.items() if value is not None}
    if recipe is None:
        return make_recipe(flags, "command line")
    return read_recipe(recipe, flags)


def run(recipe: Recipe, skip: frozenset[str], dump: Path | None, as_json: bool) -> None:
    """Compile, and say what came of it."""
    from hearth.compiler.pipeline import compile_model
    from hearth.runtime.progress import choose

    began = time.monotonic()

    def announce(prediction: Prediction) -> None:
        _say(as_json, prediction_line(prediction), {"event": "predicted", "peak": prediction.peak})

    report = compile_model(
        Path(recipe.source),
        Path(recipe.output),
        options(recipe, skip),
        progress=choose(json_lines=as_json),
        announce=announce,
        dump=dump,
    )
    seconds = time.monotonic() - began
    _say(as_json, report_text(report, seconds), report_json(report, seconds))


def options(recipe: Recipe, skip: frozenset[str]) -> Options:
    """The typed values behind a recipe's names."""
    from hearth.compiler.lower.targets import find_target, native_target
    from hearth.compiler.pipeline import Options
    from hearth.compiler.quantize.schemes import Activations, make_scheme, weight_scheme
    from hearth.runtime import native
    from hearth.schemas.commands import KVScheme

    weights = weight_scheme(recipe.weights, recipe.group_size if recipe.weights == "int4" else 0)
    embeddings = None if recipe.embeddings is None else weight_scheme(recipe.embeddings)
    default: Activations = "dynamic" if weights.quantised else "none"
    kv = KVScheme[recipe.kv.upper()]
    scheme = make_scheme(weights, recipe.activations or default, kv, embeddings)
    target = find_target(recipe.target, native_target(tuple(native.isas())))
    return Options(scheme, target, recipe.context, skip)


def prediction_line(prediction: Prediction) -> str:
    """What is printed before the long part starts."""
    return f"peak memory will be about {prediction.peak / 2**20:,.0f} MiB"


def report_text(report: CompileReport, seconds: float) -> str:
    """Three lines for a person."""
    packed = report.packed
    return (
        f"{report.output}: {packed.archive_nbytes / 1e6:,.1f} MB, "
        f"{packed.parameters / 1e6:,.1f} M parameters at {packed.bits_per_weight:.2f} bits\n"
        f"arena {report.arena_nbytes / 2**20:,.1f} MiB (at least "
        f"{report.arena_lower_bound / 2**20:,.1f}), KV {report.kv_nbytes / 2**20:,.1f} MiB\n"
        f"{seconds:.1f} s, peak memory {report.measured_peak / 2**20:,.0f} MiB "
        f"(predicted {report.predicted_peak / 2**20:,.0f})"
    )


def report_json(report: CompileReport, seconds: float) -> dict[str, Any]:
    """The same for a program."""
    facts = asdict(report) | {"output": str(report.output), "seconds": round(seconds, 3)}
    return {"event": "compiled", **facts, "bits_per_weight": report.packed.bits_per_weight}


def _say(as_json: bool, text: str, data: dict[str, Any]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(data) + "\n")
        sys.stdout.flush()
    else:
        typer.echo(text)
