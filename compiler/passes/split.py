"""A decoder's entry main (T rows of logits) -> prefill (the last R rows) and decode (one token), weights shared.

Of the rows before the head (`hidden`, where the decoder has a pooling) the last R stay, too.
"""

from __future__ import annotations

from dataclasses import replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import LastRows, Op, PositionEmbedding, Tokens, tensor
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
    """All entries read the same Constant objects, so each weight is stored once.

    What names its results is no decoder (an encoder, a part of a general graph) and stays as it is.
    """
    if "main" not in graph.entries or not graph.is_decoder:
        return graph
    one = rewrite(Graph({"decode": graph.entries["main"]}), _one_token)
    entries = {"prefill": _last(*graph.entries["main"]), "decode": one.entries["decode"]}
    if "hidden" in graph.entries:
        entries["hidden"] = _last(*graph.entries["hidden"])
    return Graph(entries, graph.results)


def _last(rows: Op, *caches: Op) -> tuple[Op, ...]:
    return rows if tensor(rows).shape[0] == Dim.R else LastRows(rows, Dim.R), *caches
