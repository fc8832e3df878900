"""Cache halves: written whole, read as they were written, with the scales that were written with them."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.runtime.verify.plan.at import At
from hearth.runtime.verify.plan.memory import Definition, Memory
from hearth.runtime.verify.plan.operands import Bound
from hearth.schemas.commands import KVKind, Role

FORM = ("heads", "head_dim", "context", "scheme", "kind")


def check_read(at: At, memory: Memory, bound: Bound) -> None:
    """A cache half that this entry has written, in the form attention expects."""
    operand, ints = bound.operand, at.ints
    made = memory.defined.get(operand.value)
    if made is None:
        raise at.fail("state.unwritten", f"{bound.name} reads value {operand.value}")
    kind = KVKind.K if bound.name.startswith("k") else KVKind.V
    form = ints["kv_heads"], ints["head_dim"], ints["context"], ints["scheme"], int(kind)
    facts = (*form, *_codes(at, f"{kind.name.lower()}_"))
    same = made.kind in bound.spec.kinds and made.facts == facts
    at.need(same, "state.mismatch", bound.name)
    at.need(memory.intact(operand), "clobbered", f"{bound.name}, value {operand.value}")
    at.need(made.place == operand, "state.mismatch", f"{bound.name} lies elsewhere")


def check_together(at: At, memory: Memory, bounds: Sequence[Bound]) -> None:
    """Codes and scales were written by one command."""
    origins = {
        each.name: memory.defined[each.operand.value].origin
        for each in bounds
        if each.spec.role is Role.STATE_READ
    }
    for half in ("k", "v"):
        together = origins.get(f"{half}_scales", origins.get(half)) == origins.get(half)
        at.need(together, "state.mismatch", f"{half} and its scales")


def written(at: At, memory: Memory, bound: Bound) -> Definition:
    """A cache write takes over the whole of one cache half, or one nothing has written yet."""
    operand = bound.operand
    for low, high, _ in memory.holders(operand):
        exact = (low, high) == (operand.offset, operand.offset + operand.nbytes)
        at.need(exact, "clobbered", f"{bound.name} writes over part of another cache")
    (kind,) = bound.spec.kinds
    facts = (*(at.ints[name] for name in FORM), *_codes(at))
    return Definition(operand, kind, 0, 0, at.index, facts)


def _codes(at: At, half: str = "") -> tuple[float, ...]:
    """Scale and zero point of a static cache, in which its writer and its readers agree."""
    names = (f"{half}scale", f"{half}zero")
    return tuple(at.floats[name] for name in names if name in at.floats)
