"""A decoder that makes vectors of texts: beside a head as an entry of its rows, without one as an encoder."""

from __future__ import annotations

from hearth.compiler.frontend.blueprint import Blueprint, Family
from hearth.compiler.frontend.checkpoint import Checkpoint
from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.sentence import Sentence
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Add, Linear, SoftCap
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import Dims, Embedding


def embedding_of(sentence: Sentence, dims: Dims, family: str, where: str) -> Embedding | None:
    """A decoder's vectors, where the user or the files of sentence-transformers name a pooling; else None."""
    if not (sentence.asked or sentence.named):
        return None
    if sentence.pooling == "none":
        raise UsageError(
            "usage.pooling",
            f"pooling 'none' for a {family}, which continues text",
            expected="last, mean, cls or max",
            where=where,
            remedy="choose one of them, or leave --pooling away",
        )
    return Embedding(sentence.pooling, sentence.normalised, dims.hidden)


def is_headless(
    fields: Fields,
    family: Family,
    blueprint: Blueprint,
    checkpoint: Checkpoint,
    sentence: Sentence,
) -> bool:
    """Whether the checkpoint has no head: by its architecture, or because it is to make vectors and none is stored."""
    if not blueprint.head or blueprint.head in checkpoint.owner:
        return False
    body = set(fields.strings("architectures") or ()) & set(family.bodies)
    wanted = (name for name, _ in blueprint.shapes())
    return bool(body) or ((sentence.asked or sentence.named) and blueprint.head in wanted)


def require_pooling(sentence: Sentence, where: str) -> None:
    """UsageError usage.pooling where nothing says how a decoder without a head is to make vectors."""
    if not (sentence.asked or sentence.named):
        raise UsageError(
            "usage.pooling",
            "a decoder without a head, which continues no text, and no pooling",
            expected="how its rows become the vector of a text",
            where=where,
            remedy="choose --pooling last, mean, cls or max, or none for a vector of each token",
        )


def with_rows(graph: Graph) -> Graph:
    """main: as it was; hidden: tokens[T] -> (rows[T, E], k0, v0, k1, v1, ...), what the head of main reads."""
    logits, *caches = graph.entries["main"]
    match logits.x if isinstance(logits, SoftCap) else logits:
        case Linear(x=rows) | Add(a=Linear(x=rows)):
            return Graph({**graph.entries, "hidden": (rows, *caches)}, {"hidden": ("hidden",)})
    raise TypeError(f"{type(logits).__name__} gives the logits, expected a Linear")
