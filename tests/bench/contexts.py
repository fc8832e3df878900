"""How long a context takes to be saved and restored: python -m bench.contexts FILE.har [--tokens 2048], from tests/.

Restoring counts reading and checking the file, a new session, and its keys and values put in place; the first save
and the first restore are left out. The page cache is warm, and the folder is that of --folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from hearth.runtime import load
from hearth.runtime.contexts.prefix_cache import PrefixCache
from hearth.runtime.contexts.saved import load_context, save_context


def milliseconds(call: Callable[[], object], runs: int) -> list[float]:
    call()
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        found.append((time.perf_counter() - began) * 1e3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    model = load(arguments.archive)
    ids = np.random.default_rng(1).integers(3, model.vocab, arguments.tokens).tolist()
    session = model.session()
    began = time.perf_counter()
    session.prefill(ids)
    print(f"prefill of {len(ids)} tokens: {time.perf_counter() - began:.1f} s")
    cache = PrefixCache(1 << 30)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "talk.ctx"
        other = model.session()
        calls: dict[str, Callable[[], object]] = {
            "save": lambda: save_context(path, session),
            "restore": lambda: load_context(path, model).session(model),
            "snapshot": session.snapshot,
            "fork": session.fork,
            "keep": lambda: (cache.clear(), cache.keep(session)),
            "fill": lambda: (other.rewind(0), cache.fill(other, ids)),
        }
        for name, call in calls.items():
            times = milliseconds(call, arguments.runs)
            print(f"{name}: median {median(times):.1f} ms, {min(times):.1f} to {max(times):.1f}")
        print(f"file: {path.stat().st_size:,} bytes")
        want, got = session.decode(7), load_context(path, model).session(model).decode(7)
        assert np.array_equal(want, got)


if __name__ == "__main__":
    main()
