"""Which weights of a graph a scheme codes, and how."""

from __future__ import annotations

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Linear, Op, PositionEmbedding, Tokens
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.quantize.schemes import F16, Scheme, WeightScheme


def weight_schemes(graph: Graph, scheme: Scheme) -> dict[Constant, WeightScheme]:
    """Which constants are coded, and how; the embeddings' scheme wins where a table is also a linear's weight.

    Tables of positions and of text types stay floats: their rows are added to those of all tokens, so an
    error in one meets every token of every text, and they are small (in f16, 1.6 of GPT-2's 124 MB in int8).
    What the scheme says of a name wins over all of it.
    """
    ops = order(all_outputs(graph))
    linears = {op.weight: scheme.weights for op in ops if isinstance(op, Linear)}
    added = F16 if scheme.embeddings.quantised else scheme.embeddings
    tables = {
        op.table: scheme.embeddings if _is_vocabulary(op) else added
        for op in ops
        if isinstance(op, Embedding | PositionEmbedding)
    }
    both = {**linears, **tables}
    return {
        weight: scheme.override(weight.name) or both[weight]
        for weight in both
        if isinstance(weight, Constant)
    }


def _is_vocabulary(op: Op) -> bool:
    """Whether the table is looked up by the words of the text."""
    match op:
        case Embedding(tokens=Tokens(port="tokens")):
            return True
    return False
