"""What rows that write feel of prompts that come meanwhile: python tests/bench/mixed.py FILE.har.

Rows write throughout, seven where nothing else is said. The gaps between their tokens are given for each part: nothing
else; a long prompt that nobody has read; the same again, which is kept; several at once that begin alike; a short one
behind a long one; each with an adapter, if there is one.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hearth.runtime import Model, load
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.serving.pacing import GAP_S
from hearth.runtime.serving.scheduler import Event, Finished, Job, Piece, Scheduler, Usage


@dataclass
class Heard:
    """When the tokens of a job came, and its end."""

    began: float = field(default_factory=time.perf_counter)
    times: list[float] = field(default_factory=list)
    usage: Usage | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Piece):
            self.times.append(time.perf_counter())
            return
        assert isinstance(event, Finished), event
        self.usage = event.usage
        self.done.set()

    @property
    def first_ms(self) -> float:
        return (self.times[0] - self.began) * 1e3


class Bench:
    """A scheduler with writers, and ids drawn for prompts."""

    def __init__(self, model: Model, writers: int, draft: bool, gap_s: float) -> None:
        self.model, self.count = model, writers
        self.draw = random.Random(0)
        self.scheduler = Scheduler(
            model, rows=writers + 4, gap_s=gap_s, draft="lookup" if draft else None
        )

    def ids(self, count: int) -> tuple[int, ...]:
        return tuple(self.draw.choices(range(3, self.model.vocab), k=count))

    def submit(self, ids: Sequence[int], tokens: int, adapter: AdapterUse | None = None) -> Heard:
        request = self.model.request(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        heard = Heard()
        self.scheduler.submit(Job(tuple(ids), request, adapter=adapter), heard)
        return heard

    @contextmanager
    def writers(self) -> Iterator[list[Heard]]:
        """Rows that write until the end of the block, from when all of them have begun."""
        request = self.model.request(
            max_tokens=self.model.context - 16, temperature=0.0, ignore_eos=True
        )
        heard = [Heard() for _ in range(self.count)]
        tickets = [self.scheduler.submit(Job(self.ids(8), request), each) for each in heard]
        while not all(each.times for each in heard):
            time.sleep(0.01)
        yield heard
        for ticket in tickets:
            ticket.cancel()
        for each in heard:
            each.done.wait()

    def part(self, name: str, writers: Sequence[Heard], prompts: Sequence[Heard]) -> None:
        """Wait for the prompts (none: three seconds) and print what was felt meanwhile."""
        began = time.perf_counter()
        for each in prompts:
            each.done.wait()
        if not prompts:
            time.sleep(3)
        took = time.perf_counter() - began
        gaps = sorted(
            (after - before) * 1e3
            for each in writers
            for before, after in zip(each.times, list(each.times[1:]), strict=False)
            if after > began
        )
        at = [gaps[min(len(gaps) - 1, len(gaps) * p // 100)] for p in (50, 90, 99, 100)]
        firsts = " ".join(f"{each.first_ms:.0f}" for each in prompts)
        cached = " ".join(str(each.usage.cached_tokens) for each in prompts if each.usage)
        read = sum(each.usage.prompt_tokens for each in prompts if each.usage)
        print(
            f"{name}: {len(gaps) / took:.0f} tokens/s written, {read / took:.0f} read;"
            f" gaps p50 {at[0]:.0f}, p90 {at[1]:.0f}, p99 {at[2]:.0f}, most {at[3]:.0f} ms;"
            f" first tokens after {firsts or '-'} ms; cached {cached or '-'}",
            flush=True,
        )


def main() -> None:
    """A line for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("--prompt", type=int, default=2000)
    parser.add_argument("--writers", type=int, default=7)
    parser.add_argument("--draft", action="store_true", help="guess by the text itself")
    parser.add_argument("--gap", type=float, default=GAP_S * 1e3, help="as of hearth serve")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    bench = Bench(load(given.archive, given.threads), given.writers, given.draft, given.gap / 1e3)
    with bench.writers() as writers:
        bench.part("writers alone", writers, [])
        long = bench.ids(given.prompt)
        bench.part("a long prompt", writers, [bench.submit(long, 4)])
        bench.part("the same again", writers, [bench.submit(long, 4)])
        alike = [long[: given.prompt // 2] + bench.ids(50) for _ in range(4)]
        bench.part("four that begin so", writers, [bench.submit(ids, 4) for ids in alike])
        ahead = bench.submit(bench.ids(given.prompt), 4)
        bench.part("a short one behind", writers, [ahead, bench.submit(bench.ids(40), 4)])
        for name in bench.model.adapters:
            job = bench.submit(bench.ids(200), 4, AdapterUse(name))
            bench.part(f"with {name}", writers, [job])
    bench.scheduler.close(60)


if __name__ == "__main__":
    main()
