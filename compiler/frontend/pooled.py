"""A decoder that makes vectors of texts: the rows before its head as an entry of their own, pooled at run time."""

from __future__ import annotations

from hearth.compiler.frontend.sentence import Sentence
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Linear
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


def with_rows(graph: Graph) -> Graph:
    """main: as it was; hidden: tokens[T] -> (rows[T, E], k0, v0, k1, v1, ...), what the head of main reads."""
    logits, *caches = graph.entries["main"]
    if not isinstance(logits, Linear):
        raise TypeError(f"{type(logits).__name__} gives the logits, expected a Linear")
    return Graph({**graph.entries, "hidden": (logits.x, *caches)}, {"hidden": ("hidden",)})
