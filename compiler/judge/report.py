"""What a gate decided, and why: for people and for programs."""

from __future__ import annotations

from typing import Any

from hearth.compiler.judge.allocate import Allocation
from hearth.compiler.judge.compile import Judged
from hearth.compiler.judge.gate import Measured, Trial
from hearth.runtime.commands.terminal import table


def judged_text(found: Judged) -> str:
    """The trials; then each weight's scheme, its bits and its share of the predicted loss."""
    decision = found.decision
    where = f"{found.windows} held-out windows of {found.context} tokens"
    lines = [f"gate: {limits(found)}; measured on {where}, margins of 2 standard errors"]
    lines += [
        f"trial {number}: {_bits(found, trial.allocation):.2f} bits, predicted loss {trial.allocation.loss:.5f}, "
        f"{_measured(trial.measured)}: {'kept' if trial.met else 'missed'}"
        for number, trial in enumerate(decision.trials, 1)
    ]
    if decision.taken is None:
        return "\n".join(lines) + "\n"
    return "\n".join([*lines, _weights(found, decision.taken), _why(found, decision.taken)]) + "\n"


def limits(found: Judged) -> str:
    """The gate's own words."""
    gate = found.decision.gate
    return ", ".join(f"{name} {value:g}" for name, value in vars(gate).items() if value is not None)


def _bits(found: Judged, allocation: Allocation) -> float:
    return 8 * (found.table.fixed_nbytes + allocation.nbytes) / found.table.parameters


def _measured(each: Measured) -> str:
    parts = [f"perplexity {each.increase:+.3%} +- {each.increase_error:.3%}"]
    if each.kld is not None:
        parts.append(f"KL {each.kld:.5f} +- {each.kld_error:.5f}")
    if each.top1 is not None:
        parts.append(f"same first choice {each.top1:.2%} +- {each.top1_error:.2%}")
    return ", ".join(parts)


def _weights(found: Judged, taken: Trial) -> str:
    head = ("weight", "scheme", "bits", "bytes", "share of the loss")
    total = taken.allocation.loss or 1.0
    rows = [
        (
            tensor.name,
            choice.scheme,
            f"{8 * choice.nbytes / found.table.sizes[tensor.name]:.2f}",
            str(choice.nbytes),
            f"{choice.loss / total:.1%}",
        )
        for tensor, choice in zip(taken.allocation.tensors, taken.allocation.chosen, strict=True)
    ]
    return table([head, *rows])


def _why(found: Judged, taken: Trial) -> str:
    gate, reached = found.decision.gate, taken.measured
    kept = "the smallest of what was tried that keeps the gate"
    if gate.max_ppl_increase is None and gate.max_kld is None and gate.min_top1 is None:
        kept = f"the least predicted loss within {gate.max_bits:g} bits per weight"
    return f"{kept}: {reached.bits:.2f} bits per weight, {_measured(reached)}"


def judged_json(found: Judged) -> dict[str, Any]:
    """The same for a program."""
    decision = found.decision

    def trial(each: Trial) -> dict[str, Any]:
        return {
            "bits": _bits(found, each.allocation),
            "predicted_loss": each.allocation.loss,
            "met": each.met,
            **{name: value for name, value in vars(each.measured).items() if name != "bits"},
        }

    taken = decision.taken
    pairs = (
        [] if taken is None else zip(taken.allocation.tensors, taken.allocation.chosen, strict=True)
    )
    return {
        "event": "allocated",
        "gate": {name: value for name, value in vars(decision.gate).items() if value is not None},
        "windows": found.windows,
        "context": found.context,
        "trials": [trial(each) for each in decision.trials],
        "taken": None if taken is None else trial(taken),
        "weights": [
            {
                "name": tensor.name,
                "scheme": choice.scheme,
                "nbytes": choice.nbytes,
                "predicted_loss": choice.loss,
            }
            for tensor, choice in pairs
        ],
    }
