"""What `hearth inspect` says of a general graph: ports, and which operators run where and why."""

from __future__ import annotations

from typing import Any

from hearth.runtime.commands.terminal import table
from hearth.runtime.graph_ports import describe
from hearth.schemas.codec import encode
from hearth.schemas.graph import Engine, GraphPort, Plan

SHOWN = 20  # lines of operators for each step, and reasons of the whole
WHERE = {Engine.ONNX: "onnxruntime", Engine.NATIVE: "native"}


def describe_graph(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, without the tensors' places."""
    facts: dict[str, Any] = encode(plan)
    facts["tensors"] = len(plan.tensors)
    return facts


def graph_text(plan: Plan) -> str:
    """The same for a person."""
    parts = [_ports("input", plan.inputs), _ports("output", plan.outputs)]
    if plan.reasons:
        lines = [f"  {reason}" for reason in plan.reasons[:SHOWN]]
        more = len(plan.reasons) - SHOWN
        parts.append("\n".join(["not native as a whole:", *lines, *_more(more)]))
    parts += [_step(plan, number) for number in range(len(plan.steps))]
    return "\n".join(part for part in parts if part)


def _ports(kind: str, ports: tuple[GraphPort, ...]) -> str:
    return table((f"{kind} {port.name}", describe(port)) for port in ports)


def _step(plan: Plan, number: int) -> str:
    step = plan.steps[number]
    operators = [each for each in plan.operators if each.step == number]
    count = sum(each.count for each in operators)
    head = f"step {number}: {step.run} in {WHERE[step.engine]}: {count} operators"
    lines = table((f"  {each.count} {each.op}", each.reason) for each in operators[:SHOWN])
    return "\n".join([head, *([lines] if lines else []), *_more(len(operators) - SHOWN)])


def _more(count: int) -> list[str]:
    return [f"  and {count} more" if count > 0 else ""][: int(count > 0)]
