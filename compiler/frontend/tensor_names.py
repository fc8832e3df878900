"""The check that a checkpoint holds the tensors of a blueprint and no others; it gives them by canonical name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from hearth.compiler.frontend.blueprint import Blueprint
from hearth.compiler.frontend.checkpoint import Checkpoint
from hearth.compiler.frontend.coded import (
    ENDINGS,
    CodedWeight,
    Held,
    Parts,
    coded_weight,
    is_coded,
    prefix_of,
)
from hearth.compiler.frontend.coding import Coding
from hearth.compiler.frontend.safetensors import TensorSource, Words
from hearth.schemas.errors import CheckpointError


@dataclass(frozen=True)
class Tensors:
    """Tensors by canonical name."""

    checkpoint: Checkpoint
    stored: Mapping[str, str]  # canonical name -> name in the checkpoint
    coded: dict[str, CodedWeight] = field(default_factory=dict)

    def source(self, name: str) -> TensorSource:
        """The tensor of a canonical name, which must exist."""
        return self.checkpoint.source(self.stored[name])

    def weight(self, name: str) -> TensorSource | CodedWeight:
        """The tensor of a canonical name, or the codes that stand in its place."""
        return self.coded[name] if name in self.coded else self.source(name)

    def words(self, name: str) -> Words:
        """A tensor of whole numbers."""
        shard = self.checkpoint.owner[self.stored[name]]
        return Words(shard, shard.tensors[self.stored[name]])

    def where(self, name: str) -> str:
        """The file that holds it."""
        return str(self.checkpoint.owner[self.stored[name]].path)


def check_tensors(checkpoint: Checkpoint, blueprint: Blueprint, family: str) -> Tensors:
    """Missing, misshapen or left over: refused by name."""
    tensors = Tensors(checkpoint, _canonical(checkpoint, blueprint))
    left, held = set(tensors.stored), Held()
    for name, shape in blueprint.shapes():
        if blueprint.coding is not None and is_coded(name, tensors.stored):
            tensors.coded[name] = _coded(tensors, name, shape, blueprint.coding, held)
            left.difference_update(f"{prefix_of(name)}.{ending}" for ending in ENDINGS)
            continue
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


def _coded(
    tensors: Tensors, name: str, shape: tuple[int, ...], coding: Coding, held: Held
) -> CodedWeight:
    """The codes that stand in the place of a weight [N, K]."""
    prefix = prefix_of(name)
    for ending in ("qzeros", "scales"):
        if f"{prefix}.{ending}" not in tensors.stored:
            raise CheckpointError(
                "checkpoint.tensor_missing",
                f"tensor {f'{prefix}.{ending}'!r} is missing",
                expected=f"it beside {prefix}.qweight",
                where=str(tensors.checkpoint.directory),
                remedy="fetch the whole checkpoint",
            )
    order = f"{prefix}.g_idx"
    parts = Parts(
        prefix,
        tensors.words(f"{prefix}.qweight"),
        tensors.words(f"{prefix}.qzeros"),
        tensors.source(f"{prefix}.scales"),
        tensors.words(order) if order in tensors.stored else None,
    )
    n, k = shape
    return coded_weight(parts, coding, (n, k), held)


def _canonical(checkpoint: Checkpoint, blueprint: Blueprint) -> dict[str, str]:
    found: dict[str, str] = {}
    begun = {name: _begun(name, blueprint.beginnings) for name in checkpoint.owner}
    stem = _lacking(begun.values(), blueprint.stem)
    for name, canonical in begun.items():
        canonical = canonical if canonical == blueprint.head else stem + canonical
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


def _begun(name: str, beginnings: Mapping[str, str]) -> str:
    """The name with the first of the beginnings that it has made the canonical one."""
    for stored, canonical in beginnings.items():
        if name.startswith(stored):
            return canonical + name.removeprefix(stored)
    return name


def _lacking(names: Iterable[str], stem: str) -> str:
    """What all names but the head's lack before them."""
    return "" if any(name.startswith(stem) for name in names) else stem


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
