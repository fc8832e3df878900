"""What a compile is asked for, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hearth.compiler.calibrate.settings import Calibration
from hearth.compiler.check.accuracy import Accuracy
from hearth.compiler.lower.targets import Target, find_target, native_target
from hearth.compiler.quantize.schemes import (
    Activations,
    Scheme,
    make_scheme,
    parse_methods,
    parse_scheme,
    weight_scheme,
)
from hearth.runtime import native
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError
from hearth.schemas.recipe import PoolingName, Recipe


@dataclass(frozen=True)
class Options:
    """Everything that decides the bytes of the archive, but the source itself."""

    scheme: Scheme
    target: Target
    context: int | None = None
    skip: frozenset[str] = frozenset()
    pooling: PoolingName | None = None
    calibration: Calibration | None = None
    prompt: str | None = None  # a system message to be read at compile time
    work: Path | None = None  # folder of resumable state; decides no byte


@dataclass(frozen=True)
class Packed:
    """What the archive holds, in bytes and parameters; bits with their scales, without RoPE tables."""

    archive_nbytes: int
    weights_nbytes: int
    parameters: int
    bits_per_weight: float


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
    notes: tuple[str, ...]
    accuracy: Accuracy | None = None


def options(recipe: Recipe, skip: frozenset[str] = frozenset()) -> Options:
    """The typed values behind a recipe's names; UsageError usage.calibration where a text is needed and none named."""
    scheme = recipe_scheme(recipe)
    target = find_target(recipe.target, native_target(tuple(native.isas())))
    text = _calibration(recipe, scheme)
    work = Path(recipe.work or f"{recipe.output}.work")
    prompt = recipe.prompt_cache
    return Options(scheme, target, recipe.context, skip, recipe.pooling, text, prompt, work)


def recipe_scheme(recipe: Recipe) -> Scheme:
    """What a recipe says of codes. Errors are those of make_scheme."""
    weights = weight_scheme(recipe.weights, recipe.group_size or 0)
    embeddings = None if recipe.embeddings is None else weight_scheme(recipe.embeddings)
    default: Activations = "dynamic" if weights.quantised else "none"
    overrides = tuple((name, parse_scheme(written)) for name, written in recipe.tensors.items())
    kv = KVScheme[recipe.kv.upper().replace("-", "_")]
    return make_scheme(
        weights,
        recipe.activations or default,
        kv,
        embeddings,
        parse_methods(recipe.method),
        overrides,
    )


def _calibration(recipe: Recipe, scheme: Scheme) -> Calibration | None:
    """None where nothing needs a text."""
    return calibration(recipe, scheme) if scheme.calibrated else None


def calibration(recipe: Recipe, scheme: Scheme) -> Calibration:
    """The recipe's text; UsageError usage.calibration where it names none."""
    if recipe.calibration is None:
        raise UsageError(
            "usage.calibration",
            f"method {scheme.methods.text} with {scheme.activations} activations and no calibration text",
            expected="calibration = the path of a text",
            remedy="give --calibration FILE",
        )
    return Calibration(
        Path(recipe.calibration),
        recipe.calibration_windows,
        recipe.calibration_context,
        recipe.calibration_range,
    )


def gains_apart(options: Options) -> Options:
    """Norm gains that are folded spread the columns of a row, which has one scale; only rotations need them folded."""
    if options.scheme.methods.quarot:
        return options
    return replace(options, skip=options.skip | {"fold-norm-gain"})
