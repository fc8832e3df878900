"""Tokens per second of a scheduler at several numbers of rows, beside those of the model's batches alone.

python tests/bench/scheduler.py model.har --rows 1,4,8 --tokens 64
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Callable

from hearth.runtime import Model, decode_together, load
from hearth.runtime.serving.scheduler import Event, Job, Piece, Scheduler


def batch_rate(model: Model, prompts: list[list[int]], tokens: int) -> float:
    """Greedy rows by decode_together alone."""
    sessions = [model.session() for _ in prompts]
    last = [int(s.prefill(p).argmax()) for s, p in zip(sessions, prompts, strict=True)]
    began = time.perf_counter()
    for _ in range(tokens):
        if len(sessions) == 1:
            last = [int(sessions[0].decode(last[0]).argmax())]
        else:
            logits = decode_together(list(zip(sessions, last, strict=True)))
            last = [int(row.argmax()) for row in logits]
    return len(prompts) * tokens / (time.perf_counter() - began)


def served_rate(scheduler: Scheduler, prompts: list[list[int]], tokens: int) -> float:
    """The same rows as jobs, from the moment that all of them write until one ends."""
    times: list[list[float]] = [[] for _ in prompts]
    ends = [threading.Event() for _ in prompts]

    def sink(number: int) -> object:
        def hear(event: Event) -> None:
            if isinstance(event, Piece):
                times[number].append(time.perf_counter())
            else:
                ends[number].set()

        return hear

    request = scheduler.model.request(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    for number, prompt in enumerate(prompts):
        scheduler.submit(Job(tuple(prompt), request), sink(number))
    for end in ends:
        end.wait()
    first, last = max(each[0] for each in times), min(each[-1] for each in times)
    count = sum(first < at <= last for each in times for at in each)
    return count / (last - first)


class Inside:
    """How long runs of the model take, all together."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("run", "run_segments"):
            self._time(name, getattr(Model, name))

    def _time(self, name: str, run: Callable[..., None]) -> None:
        def timed(*arguments: object) -> None:
            began = time.perf_counter()
            run(*arguments)
            self.seconds += time.perf_counter() - began

        setattr(Model, name, timed)


def main() -> None:
    """A line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("--rows", default="1,4,8")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    inside = Inside()
    model, draw = load(given.archive, given.threads), random.Random(0)
    for rows in map(int, given.rows.split(",")):
        prompts = [draw.choices(range(model.vocab), k=given.prompt) for _ in range(rows)]
        scheduler = Scheduler(model, rows=rows)
        served_rate(scheduler, prompts, 8)
        for _ in range(2):
            alone = batch_rate(model, prompts, given.tokens)
            before, began = inside.seconds, time.perf_counter()
            served = served_rate(scheduler, prompts, given.tokens)
            outside = 1 - (inside.seconds - before) / (time.perf_counter() - began)
            print(
                f"{rows} rows: batches {alone:.1f} tokens/s, served {served:.1f},"
                f" {outside:.1%} of the time outside the model",
                flush=True,
            )
        scheduler.close()


if __name__ == "__main__":
    main()
