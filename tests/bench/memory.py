"""Whether the memory of a scheduler stays as it is, over thousands of jobs: python tests/bench/memory.py FILE.har.

Prompts of random lengths, some of which begin alike, with sampling, penalties, log probabilities and cancels. A line
every tenth of the jobs; what the allocator holds is glibc's mallinfo2.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import threading
import time
from pathlib import Path

from hearth.runtime import Model, load
from hearth.runtime.serving.scheduler import Event, Finished, Job, Piece, Scheduler, Ticket

AT_ONCE = 24  # jobs that are served or wait


class Malloc(ctypes.Structure):
    """struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    ]  # fmt: skip


def held() -> str:
    """Megabytes: resident and no file's; of the allocator's heaps, in use and free; of its mappings."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Malloc
    found = mallinfo2()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    anonymous = int(status["RssAnon"].split()[0]) / 1e3
    parts = (found.uordblks, found.fordblks, found.hblkhd)
    used, free, mapped = (part / 1e6 for part in parts)
    return f"anonymous {anonymous:.1f} MB (heaps {used:.1f} used, {free:.1f} free; mapped {mapped:.1f})"


def jobs(model: Model, seed: int) -> tuple[Job, bool]:
    """A job, and whether it is to be cancelled while it writes."""
    draw = random.Random(seed)
    most = min(model.context, 512)
    beginning = random.Random(seed % 5).choices(range(3, model.vocab), k=40)
    prompt = draw.choices(range(3, model.vocab), k=draw.randint(1, most // 2))
    if draw.random() < 0.5:
        prompt = beginning + prompt[: most // 2 - 40]
    request = model.request(
        max_tokens=draw.randint(1, most // 4),
        ignore_eos=True,
        temperature=draw.choice((0.0, 0.8)),
        top_p=draw.choice((1.0, 0.9)),
        frequency_penalty=draw.choice((0.0, 0.3)),
        seed=seed,
    )
    return Job(tuple(prompt), request), draw.random() < 0.2


def serve(scheduler: Scheduler, job: Job, cancel: bool, done: threading.Semaphore) -> None:
    """Submit it; `done` is released at its end."""
    tickets: list[Ticket] = []

    def hear(event: Event) -> None:
        if isinstance(event, Piece):
            if cancel and tickets:
                tickets[0].cancel()
        else:
            assert isinstance(event, Finished), event
            done.release()

    tickets.append(scheduler.submit(job, hear))


def main() -> None:
    """The lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prefix-mib", type=int, default=32)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    model = load(given.archive, given.threads)
    scheduler = Scheduler(model, rows=given.rows, prefix_nbytes=given.prefix_mib << 20)
    room, began = threading.Semaphore(AT_ONCE), time.perf_counter()
    for number in range(given.jobs):
        room.acquire()
        serve(scheduler, *jobs(model, number), room)
        if (number + 1) % max(given.jobs // 10, 1) == 0:
            kept = scheduler.stats().prefixes.nbytes / 1e6
            seconds = time.perf_counter() - began
            print(f"{number + 1} jobs, {seconds:.0f} s: {held()}, prefixes {kept:.1f}", flush=True)
    scheduler.close(60)


if __name__ == "__main__":
    main()
