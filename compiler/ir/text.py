"""A graph as stable, readable text: constants first, then one line per op of each entry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from enum import Enum

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Cache, Constant, Op
from hearth.compiler.ir.rewrite import all_outputs, order


def number(outputs: tuple[Op, ...]) -> dict[Op, int]:
    """The number of each op of an entry: `%3` in the text, `op3` in an exported model."""
    ops = (op for op in order(outputs) if not isinstance(op, Constant))
    return {op: index for index, op in enumerate(ops)}


def dump(graph: Graph) -> str:
    """The text of a graph; equal graphs give equal text."""
    constants = {f'"{op.name}"': op for op in order(all_outputs(graph)) if isinstance(op, Constant)}
    lines = [f"{name} : {_constant(op)}" for name, op in sorted(constants.items())]
    for name, outputs in graph.entries.items():
        lines += ["", f"{name}:", *_entry(outputs, graph.results.get(name, ()))]
    return "\n".join(lines).strip("\n") + "\n"


def _constant(op: Constant) -> str:
    group = getattr(op.value, "group", 0)
    return f"{op.type}, groups of {group}" if group else str(op.type)


def _entry(outputs: tuple[Op, ...], names: tuple[str, ...]) -> Iterator[str]:
    numbers = number(outputs)
    for op, index in numbers.items():
        yield f"  %{index} = {type(op).__name__}({', '.join(_fields(op, numbers))}) : {op.type}"
    results = [_reference(op, numbers) for op in outputs]
    named = [f"{name}={result}" for name, result in zip(names, results, strict=False)]
    yield f"  return {', '.join([*named, *results[len(named) :]])}"


def _reference(op: Op, numbers: dict[Op, int]) -> str:
    return f'"{op.name}"' if isinstance(op, Constant) else f"%{numbers[op]}"


def _fields(op: Op, numbers: dict[Op, int]) -> Iterator[str]:
    """Operands first; a field that has its default is left out."""
    if isinstance(op, Cache):
        return  # its type says all
    for field in fields(op):
        value = getattr(op, field.name)
        if value is None or value == field.default:
            continue
        if not isinstance(value, Op):
            yield f"{field.name}={value.name if isinstance(value, Enum) else value}"
        elif field.default is None or "None" in str(field.type):
            yield f"{field.name}={_reference(value, numbers)}"
        else:
            yield _reference(value, numbers)
