"""What an adapter costs: decode and prefill without and with it by turns, and the time to change it.

python tests/bench/lora.py ARCHIVE --checkpoint DIR [--rank 16] [--weights int8]  adds a random adapter of all linears
python tests/bench/lora.py ARCHIVE [--rounds 6] [--steps 12] measures it
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.lora import Peft, write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.runtime import AdapterUse, load
from hearth.runtime.archive import open_archive
from hearth.runtime.model import Model
from hearth.runtime.session import Session
from hearth.schemas.lora import AdapterWeights

USES = {"none": None, "adapter": AdapterUse("bench")}


def main() -> None:
    """Print one line for each measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("archive", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--weights", default="int8")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    if given.checkpoint is None:
        return measure(load(given.archive), given.rounds, given.steps)
    with tempfile.TemporaryDirectory() as folder:
        peft = write_peft(Path(folder), given.checkpoint, Peft(given.rank, 2 * given.rank))
        began = time.perf_counter()
        lora = add_adapter(
            open_archive(given.archive), "bench", peft, AdapterWeights(given.weights)
        )
        print(f"add: {time.perf_counter() - began:.2f} s, {lora.data_nbytes / 1e6:.1f} MB")
    return None


def measure(model: Model, rounds: int, steps: int) -> None:
    """Medians over rounds, which take turns."""
    session = model.session()
    session.decode(1)  # the archive is mapped in the background until the first run
    first = 1e3 * timed(lambda: bind(session, model))
    token, swaps = 1, []
    used = 1e3 * timed(lambda: session.decode(token))
    for _ in range(100):
        swaps.append(1e3 * timed(lambda: session.use_adapter("bench", 0.5)))
        session.use_adapter(None)
    print(
        f"first use {first:.3f} ms (the decode after it {used:.2f}), then {statistics.median(swaps):.4f} ms"
    )
    prompt = np.arange(min(model.chunk, model.context // 4)) % model.vocab
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in USES}
    for _ in range(rounds):
        for name, use in USES.items():
            session = model.session(adapter=use)
            reading = timed(lambda: session.prefill(prompt))  # noqa: B023
            session.decode(token)
            writing = [timed(lambda: session.decode(token)) for _ in range(steps)]  # noqa: B023
            found[name].append((reading, statistics.median(writing)))
    for at, what in enumerate((f"prefill of {len(prompt)}", "decode")):
        none, with_it = (statistics.median(each[at] for each in found[name]) for name in USES)
        print(
            f"{what}: {1e3 * none:.2f} ms, with an adapter {1e3 * with_it:.2f} ms ({with_it / none - 1:+.1%})"
        )


def bind(session: Session[Any], model: Model) -> None:
    """All that a first use takes before its run: read, mapped, checked."""
    session.use_adapter("bench")
    model.bind_adapter(USES["adapter"])


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
