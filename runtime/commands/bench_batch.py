"""What `hearth bench --batch` times: sessions that decode together, against one that decodes alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from hearth.runtime import native
from hearth.runtime.batch import decode_together
from hearth.runtime.commands.terminal import duration, rate
from hearth.runtime.model import Model
from hearth.runtime.session import Session, check_room
from hearth.schemas.errors import UsageError

Clock = Callable[[], float]
BATCH_COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "rows": ("batch", str),
    "step_s": ("step", duration),
    "tokens_per_s": ("decode", rate),
    "gain": ("of one row", lambda value: f"{value:.2f} x"),
}


@dataclass(frozen=True)
class Steps:
    """What is timed: so many steps of sessions that hold a drawn prompt each; the median of the runs counts."""

    prompt: int = 96
    count: int = 8
    runs: int = 5
    seed: int = 0
    clock: Clock = time.perf_counter


USUAL = Steps()


def batch_rates(model: Model, sizes: Sequence[int], steps: Steps = USUAL) -> list[dict[str, Any]]:
    """Of each batch size the seconds of a step, tokens/s, and `gain`: that rate by the rate of `Session.decode`.

    A run measures every size once, one after the other, so that all see the same phases of the machine; the first
    run does not count.
    """
    if not sizes or min(*sizes, steps.prompt, steps.count, steps.runs) < 1:
        raise UsageError(
            "arguments.bench",
            f"batches of {list(sizes)}, a prompt of {steps.prompt}, {steps.count} steps, {steps.runs} runs",
            expected="numbers of at least 1",
        )
    check_room(steps.prompt, steps.count, model.context)
    draw = np.random.default_rng(steps.seed)
    sessions = [model.session() for _ in range(max(sizes))]
    for session in sessions:
        session.prefill(draw.integers(0, model.vocab, steps.prompt))
    token = int(draw.integers(0, model.vocab))
    work: list[Callable[[], object]] = [partial(sessions[0].decode, token)]
    for size in sizes:
        turns = [(session, token) for session in sessions[:size]]
        work.append(partial(decode_together, turns))
    alone, *together = _medians(work, sessions, steps)
    return [
        {
            "rows": size,
            "step_s": step_s,
            "tokens_per_s": size / step_s,
            "gain": size * alone / step_s,
        }
        for size, step_s in zip(sizes, together, strict=True)
    ]


def _medians(
    work: Sequence[Callable[[], object]], sessions: Sequence[Session[native.State]], steps: Steps
) -> list[float]:
    """Seconds of a step of each kind of work; sessions go back to their prompts after each."""

    def timed(step: Callable[[], object]) -> float:
        began = steps.clock()
        for _ in range(steps.count):
            step()
        elapsed = steps.clock() - began
        for session in sessions:
            session.rewind(steps.prompt)
        return elapsed / steps.count

    times = [[timed(step) for step in work] for _ in range(steps.runs + 1)][1:]
    return [median(column) for column in zip(*times, strict=True)]
