"""What a compile is asked for, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hearth.compiler.check.accuracy import Accuracy
from hearth.compiler.lower.targets import Target, find_target, native_target
from hearth.compiler.quantize.schemes import Activations, Scheme, make_scheme, weight_scheme
from hearth.runtime import native
from hearth.schemas.commands import KVScheme
from hearth.schemas.recipe import PoolingName, Recipe


@dataclass(frozen=True)
class Options:
    """Everything that decides the bytes of the archive, but the source itself."""

    scheme: Scheme
    target: Target
    context: int | None = None
    skip: frozenset[str] = frozenset()
    pooling: PoolingName | None = None


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
    """The typed values behind a recipe's names."""
    weights = weight_scheme(recipe.weights, recipe.group_size or 0)
    embeddings = None if recipe.embeddings is None else weight_scheme(recipe.embeddings)
    default: Activations = "dynamic" if weights.quantised else "none"
    kv = KVScheme[recipe.kv.upper()]
    scheme = make_scheme(weights, recipe.activations or default, kv, embeddings)
    target = find_target(recipe.target, native_target(tuple(native.isas())))
    return Options(scheme, target, recipe.context, skip, recipe.pooling)
