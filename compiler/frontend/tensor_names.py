"""The check that a checkpoint holds the tensors of a blueprint and no others; it gives them by canonical name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hearth.compiler.frontend.blueprint import Blueprint
from hearth.compiler.frontend.checkpoint import Checkpoint
from hearth.compiler.frontend.safetensors import TensorSource
from hearth.schemas.errors import CheckpointError


@dataclass(frozen=True)
class Tensors:
    """Tensors by canonical name."""

    checkpoint: Checkpoint
    stored: Mapping[str, str]  # canonical name -> name in the checkpoint

    def source(self, name: str) -> TensorSource:
        """The tensor of a canonical name, which must exist."""
        return self.checkpoint.source(self.stored[name])

    def where(self, name: str) -> str:
        """The file that holds it."""
        return str(self.checkpoint.owner[self.stored[name]].path)


def check_tensors(checkpoint: Checkpoint, blueprint: Blueprint, family: str) -> Tensors:
    """Missing, misshapen or left over: refused by name."""
    tensors = Tensors(checkpoint, _canonical(checkpoint, blueprint))
    left = set(tensors.stored)
    for name, shape in blueprint.shapes():
        if name not in tensors.stored:
            raise CheckpointError(
                "checkpoint.tensor_missing",
                f"tensor {name!r} is missing",
                expected=f"shape {list(shape)} by config.json",
                where=str(checkpoint.directory),
                remedy=blueprint.hints.get(name, ""),
            )
        found = tensors.source(name).shape
        if found != shape:
            raise CheckpointError(
                "checkpoint.tensor_shape",
                f"tensor {name!r} has shape {list(found)}",
                expected=f"{list(shape)} by config.json",
                where=tensors.where(name),
            )
        left.remove(name)
    _check_left_over(tensors, blueprint, family, left)
    return tensors


def _canonical(checkpoint: Checkpoint, blueprint: Blueprint) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in checkpoint.owner:
        canonical = name.removeprefix(blueprint.prefix)
        for ending, wanted in blueprint.endings.items():
            if canonical.endswith(ending):
                canonical = canonical.removesuffix(ending) + wanted
        if canonical in found:
            raise CheckpointError(
                "checkpoint.tensor_twice",
                f"tensors {found[canonical]!r} and {name!r} are one to this model",
                expected=f"one of them, as {canonical!r}",
                where=str(checkpoint.owner[name].path),
            )
        found[canonical] = name
    return found


def _check_left_over(tensors: Tensors, blueprint: Blueprint, family: str, left: set[str]) -> None:
    """Buffers and unused parts are ignored, as is a head that repeats the tied table."""
    left = {name for name in left if not any(fnmatchcase(name, p) for p in blueprint.ignored)}
    for name, original in blueprint.repeats.items():
        if name in left:
            _check_repeat(tensors, name, original)
            left.remove(name)
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        name = min(left)
        raise CheckpointError(
            "checkpoint.tensor_left_over",
            f"tensor {tensors.stored[name]!r}{more} has no place in this model",
            expected=f"only what a {family} of {blueprint.dims.layers} layers has",
            where=tensors.where(name),
            remedy="an adapter must be merged first; other parts must be removed",
        )


def _check_repeat(tensors: Tensors, name: str, original: str) -> None:
    if not tensors.source(name).same_bytes(tensors.source(original)):
        raise CheckpointError(
            "checkpoint.tied_head_differs",
            f"tensor {name!r} differs from {original!r}",
            expected="the same values, as tie_word_embeddings says",
            where=tensors.where(name),
            remedy="set tie_word_embeddings to false in config.json, or remove the tensor",
        )
