"""A decoder's entry main (T rows of logits) -> prefill (the last R rows) and decode (one token), weights shared."""

from __future__ import annotations

from dataclasses import replace

from hearth.compiler.ir.ops import Graph, LastRows, Op, PositionEmbedding, Tokens, tensor
from hearth.compiler.ir.rewrite import rewrite
from hearth.compiler.ir.types import Dim


def _one_token(op: Op) -> Op | None:
    match op:
        case Tokens() | PositionEmbedding():
            return replace(op, rows=1)
        case LastRows(x=x) if tensor(x).shape[0] == 1:
            return x
    return None


def split(graph: Graph) -> Graph:
    """Both entries read the same Constant objects, so each weight is stored once.

    What names its results is no decoder (an encoder, a part of a general graph) and stays as it is.
    """
    if "main" not in graph.entries or graph.results:
        return graph
    logits, *caches = graph.entries["main"]
    last = logits if tensor(logits).shape[0] == Dim.R else LastRows(logits, Dim.R)
    one = rewrite(Graph({"decode": graph.entries["main"]}), _one_token)
    return Graph({"prefill": (last, *caches), "decode": one.entries["decode"]})
