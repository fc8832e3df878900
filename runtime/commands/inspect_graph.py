"""What `hearth inspect` says of a general graph: ports, and which operators run where and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hearth.runtime.archive import Archive
from hearth.runtime.commands.terminal import table
from hearth.runtime.graphs.ports import describe
from hearth.schemas.codec import loads
from hearth.schemas.graph import Engine, GraphPort, Plan
from hearth.schemas.sections import GRAPH

SHOWN = 20  # lines of operators for each step, and reasons of the whole
WHERE = {Engine.ONNX: "onnxruntime", Engine.NATIVE: "native"}


def describe_graph(archive: Archive) -> dict[str, Any]:
    """Ports, steps with their operators, and why the graph is not native as a whole, as plain data."""
    plan = loads(Plan, archive.section(GRAPH), GRAPH, str(archive.path))
    return {
        "inputs": _ports(plan.inputs),
        "outputs": _ports(plan.outputs),
        "steps": [_step(plan, number) for number in range(len(plan.steps))],
        "reasons": list(plan.reasons),
    }


def _ports(ports: Iterable[GraphPort]) -> dict[str, str]:
    return {port.name: describe(port) for port in ports}


def _step(plan: Plan, number: int) -> dict[str, Any]:
    step = plan.steps[number]
    return {
        "run": step.run,
        "engine": WHERE[step.engine],
        "inputs": list(step.inputs),
        "outputs": list(step.outputs),
        "tensors_nbytes": sum(plan.tensors[each].nbytes for each in step.tensors),
        "operators": [
            {"op": each.op, "count": each.count, "reason": each.reason}
            for each in plan.operators
            if each.step == number
        ],
    }


def graph_text(graph: Mapping[str, Any]) -> str:
    """The same for a person."""
    ports = [(f"input {name}", text) for name, text in graph["inputs"].items()]
    ports += [(f"output {name}", text) for name, text in graph["outputs"].items()]
    parts = [table(ports)]
    if graph["reasons"]:
        lines = [f"  {reason}" for reason in graph["reasons"]]
        parts.append("\n".join(["not native as a whole:", *_first(lines)]))
    parts += [_step_text(number, step) for number, step in enumerate(graph["steps"])]
    return "\n".join(part for part in parts if part)


def _step_text(number: int, step: Mapping[str, Any]) -> str:
    count = sum(each["count"] for each in step["operators"])
    head = f"step {number}: {step['run']} in {step['engine']}: {count} operators"
    rows = [(f"  {each['count']:>5} {each['op']}", each["reason"]) for each in step["operators"]]
    return "\n".join([head, *_first(table(rows).splitlines())])


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"  and {more} more"] if more > 0 else [])]
