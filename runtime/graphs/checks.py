"""Whether the plan of a general graph can run: every value is made once and before it is read, every part is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

from hearth.schemas.errors import ArchiveError
from hearth.schemas.graph import Engine, Plan, Step, StoredTensor
from hearth.schemas.sections import TENSORS, Kind, Section

# Bits of an element by its ONNX type; those not listed cannot lie in the section of tensors.
BITS: Mapping[int, int] = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64,
    15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip


def check_plan(
    plan: Plan, sections: Mapping[str, Section], entries: Collection[str], where: str
) -> None:
    """Raises ArchiveError `archive.graph` for a plan that does not hold together."""
    section = sections.get(TENSORS)
    room = section.nbytes if section else 0
    for tensor in plan.tensors:
        _check_tensor(tensor, room, where)
    made = {port.name for port in plan.inputs}
    for number, step in enumerate(plan.steps):
        _check_step(step, number, len(plan.tensors), sections, entries, where)
        for name in step.inputs:
            if name not in made:
                raise _bad(f"step {number} reads {name!r} before it is made", where)
        for name in step.outputs:
            if name in made:
                raise _bad(f"step {number} makes {name!r} again", where)
            made.add(name)
    for port in plan.outputs:
        if port.name not in made:
            raise _bad(f"no step makes the output {port.name!r}", where)


def _check_tensor(tensor: StoredTensor, room: int, where: str) -> None:
    bits = BITS.get(tensor.dtype)
    if bits is None or tensor.nbytes != -(-prod(tensor.shape) * bits // 8):
        raise _bad(f"tensor {tensor.name!r} has {tensor.nbytes} bytes", where)
    if tensor.offset + tensor.nbytes > room:
        raise _bad(f"tensor {tensor.name!r} ends outside its section of {room} bytes", where)


def _check_step(
    step: Step,
    number: int,
    tensors: int,
    sections: Mapping[str, Section],
    entries: Collection[str],
    where: str,
) -> None:
    match step.engine:
        case Engine.ONNX:
            section = sections.get(step.run)
            there = section is not None and section.kind == Kind.ONNX
        case Engine.NATIVE:
            there = step.run in entries and not step.tensors
    if not there:
        raise _bad(f"step {number} runs {step.run!r}, which is not there", where)
    if any(each >= tensors for each in step.tensors):
        raise _bad(f"step {number} reads a tensor beyond the {tensors} there are", where)


def _bad(found: str, where: str) -> ArchiveError:
    return ArchiveError(
        "archive.graph",
        found,
        expected="steps that follow from each other",
        where=where,
        remedy="compile the model again",
    )
