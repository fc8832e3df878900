"""Texts a second that become vectors, several in a request and one by one, with the memory that it takes.

python tests/bench/embeddings.py ARCHIVE [--texts 8] [--tokens 128] [--runs 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from hearth.runtime import Encoder, Model, load_any


def seconds(work: Callable[[], object], runs: int) -> list[float]:
    """Of each run, the first one left out."""
    found = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found[1:]


def main() -> None:
    """One JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    for name, default in (("texts", 8), ("tokens", 128), ("runs", 5), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    model = load_any(asked.archive, asked.threads)
    assert isinstance(model, Model | Encoder)
    vectors = model.vectors() if isinstance(model, Model) else model
    ids = np.random.default_rng(0).integers(0, model.vocab, (asked.texts, asked.tokens)).tolist()
    together = seconds(lambda: vectors.embed(ids), asked.runs)
    alone = seconds(lambda: [vectors.embed([each]) for each in ids], asked.runs)
    found = {
        "texts": asked.texts,
        "tokens": asked.tokens,
        "together_texts_per_s": round(asked.texts / median(together), 2),
        "alone_texts_per_s": round(asked.texts / median(alone), 2),
        "together_s": [round(each, 3) for each in together],
        "alone_s": [round(each, 3) for each in alone],
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
