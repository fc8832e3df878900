"""Walk and rewrite graphs: topological order, use counts, and bottom-up rewriting by rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import networkx as nx

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Op

Rule = Callable[[Op], Op | None]  # None: not mine
CountedRule = Callable[
    [Op, Callable[[Op], int]], Op | None
]  # the second argument counts an op's uses

_ROOT = object()


def order(outputs: Iterable[Op]) -> tuple[Op, ...]:
    """Every op that the outputs need, operands first, each once; the same graph gives the same order."""
    graph: nx.DiGraph[object] = nx.DiGraph()
    graph.add_node(_ROOT)
    stack: list[Op] = []
    for output in outputs:
        graph.add_edge(_ROOT, output)
        stack.append(output)
    seen: set[Op] = set()
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        for operand in op.operands:
            graph.add_edge(op, operand)
            stack.append(operand)
    nodes = nx.dfs_postorder_nodes(graph, _ROOT)
    return tuple(op for op in nodes if isinstance(op, Op))


def all_outputs(graph: Graph) -> tuple[Op, ...]:
    """The outputs of every entry, one after the other."""
    return tuple(op for outputs in graph.entries.values() for op in outputs)


def uses(graph: Graph) -> Counter[Op]:
    """How often each op is read, as an operand or as an output of an entry."""
    counts: Counter[Op] = Counter(all_outputs(graph))
    for op in order(all_outputs(graph)):
        counts.update(op.operands)
    return counts


def users(graph: Graph) -> dict[Op, list[Op]]:
    """The ops that read each op, in topological order (an op that reads twice is there twice)."""
    readers: dict[Op, list[Op]] = {}
    for op in order(all_outputs(graph)):
        for operand in op.operands:
            readers.setdefault(operand, []).append(op)
    return readers


def rewrite_counted(graph: Graph, rule: CountedRule) -> Graph:
    """Rewrite bottom-up once; the same graph object when no rule fired.

    A rule sees its op with operands already rewritten. Counts are those of the graph before the rewrite,
    and an op that replaces another takes over its count.
    """
    before = uses(graph)
    counts: dict[Op, int] = dict(before)
    new: dict[Op, Op] = {}
    for op in order(all_outputs(graph)):
        rebuilt = op.with_operands(tuple(new[operand] for operand in op.operands))
        counts.setdefault(rebuilt, before[op])
        result = rule(rebuilt, lambda asked: counts.get(asked, 0))
        if result is not None and result is not rebuilt:
            counts.setdefault(result, before[op])
            rebuilt = result
        new[op] = rebuilt
    return _replaced(graph, new)


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """Rewrite bottom-up once by a rule that needs no use counts."""
    return rewrite_counted(graph, lambda op, _: rule(op))


def rewrite_each(graph: Graph, rule: Callable[[Op, Op], Op]) -> Graph:
    """Rewrite bottom-up once by rule(op, the op over rewritten operands), for rules that know the ops of before."""
    new: dict[Op, Op] = {}
    for op in order(all_outputs(graph)):
        new[op] = rule(op, op.with_operands(tuple(new[operand] for operand in op.operands)))
    return _replaced(graph, new)


def _replaced(graph: Graph, new: dict[Op, Op]) -> Graph:
    entries = {
        name: tuple(new[output] for output in outputs) for name, outputs in graph.entries.items()
    }
    same = all(
        after is before
        for name, outputs in graph.entries.items()
        for after, before in zip(entries[name], outputs, strict=True)
    )
    return graph if same else replace(graph, entries=entries)


def to_fixpoint(graph: Graph, step: Callable[[Graph], Graph]) -> Graph:
    """Repeat a step until it returns the graph it was given."""
    while (after := step(graph)) is not graph:
        graph = after
    return graph
