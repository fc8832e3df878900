"""What `hearth bench --batch` times: sessions that decode together, against one that decodes alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from hearth.runtime.batch import decode_together
from hearth.runtime.commands.terminal import duration, rate
from hearth.runtime.model import Model
from hearth.runtime.session import check_room
from hearth.schemas.errors import UsageError

Clock = Callable[[], float]
BATCH_COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "rows": ("batch", str),
    "step_s": ("step", duration),
    "tokens_per_s": ("decode", rate),
    "gain": ("of one row", lambda value: f"{value:.2f} x"),
}


def batch_rates(
    model: Model,
    sizes: Sequence[int],
    prompt: int = 96,
    steps: int = 8,
    runs: int = 5,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> list[dict[str, Any]]:
    """Of each batch size the seconds of a step, tokens/s, and `gain`: that rate by the rate of `Session.decode`.

    Each session holds a prompt of its own. A run measures every size once, one after the other, so that all see the
    same phases of the machine; medians of `runs`, after one that does not count.
    """
    if not sizes or min(sizes) < 1 or min(prompt, steps, runs) < 1:
        raise UsageError(
            "arguments.bench",
            f"batches of {list(sizes)}, a prompt of {prompt}, {steps} steps, {runs} runs",
            expected="numbers of at least 1",
        )
    check_room(prompt, steps, model.context)
    draw = np.random.default_rng(seed)
    sessions = [model.session() for _ in range(max(sizes))]
    for session in sessions:
        session.prefill(draw.integers(0, model.vocab, prompt))
    token = int(draw.integers(0, model.vocab))

    def timed(step: Callable[[], object]) -> float:
        began = clock()
        for _ in range(steps):
            step()
        elapsed = clock() - began
        for session in sessions:
            session.rewind(prompt)
        return elapsed / steps

    work: list[Callable[[], object]] = [partial(sessions[0].decode, token)]
    for size in sizes:
        turns = [(session, token) for session in sessions[:size]]
        work.append(partial(decode_together, turns))
    times = [[timed(step) for step in work] for _ in range(runs + 1)][1:]
    alone, *together = (median(column) for column in zip(*times, strict=True))
    return [
        {
            "rows": size,
            "step_s": step_s,
            "tokens_per_s": size / step_s,
            "gain": size * alone / step_s,
        }
        for size, step_s in zip(sizes, together, strict=True)
    ]
