"""Milliseconds to choose a token of 151,936: `python tests/bench/sampling.py` (figures: docs/sampling.md).

Logits of four kinds: a model's (most of the probability on few tokens), a bell, nearly flat, flat.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.sampling import GREEDY, Chooser, Sampling

VOCABULARY = 151_936
ROUNDS = 60
PROMPT = 2048
Row = NDArray[np.float32]


class Most:
    """A constraint that allows nine tokens of ten."""

    done = False

    def __init__(self) -> None:
        bits = np.random.default_rng(1).random(VOCABULARY // 32 * 32) < 0.9
        self._mask = np.packbits(bits, bitorder="little").view(np.uint32)

    def allowed(self) -> NDArray[np.uint32]:
        return self._mask

    def accept(self, token: int) -> None:
        pass

    def copy(self) -> Most:
        return self


PENALTIES = {"repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1}
BIAS = tuple((token, 1.0) for token in range(0, 3000, 10))
SETTINGS: Mapping[str, Sampling] = {
    "greedy": GREEDY,
    "temperature 1": Sampling(),
    "temperature 0.8": Sampling(0.8),
    "top-k 40": Sampling(0.8, top_k=40),
    "top-k 50,000": Sampling(0.8, top_k=50_000),
    "top-p 0.95": Sampling(0.8, top_p=0.95),
    "min-p 0.05": Sampling(0.8, min_p=0.05),
    "typical-p 0.95": Sampling(0.8, typical_p=0.95),
    "three penalties": Sampling(0.8, **PENALTIES),
    "bias of 300 tokens": Sampling(0.8, logit_bias=BIAS),
    "top-k 40, top-p 0.95, min-p 0.05": Sampling(0.8, top_k=40, top_p=0.95, min_p=0.05),
    "everything, top-k 100": Sampling(
        0.8, 100, 0.95, 0.01, 0.95, **PENALTIES, logit_bias=BIAS, banned=(5, 6, 7)
    ),
    "everything, top-k 100,000": Sampling(
        0.8, 100_000, 0.99, 1e-9, 0.99, **PENALTIES, logit_bias=BIAS, banned=(5, 6, 7)
    ),
}


def kinds() -> dict[str, Row]:
    random = np.random.default_rng(0)
    bell = random.standard_normal(VOCABULARY)
    model = bell * 2.5
    model[random.permutation(VOCABULARY)[:40]] += random.uniform(5, 15, 40)
    rows = {"model": model, "bell": bell * 3, "nearly flat": bell * 1e-3, "flat": bell * 0}
    return {name: row.astype(np.float32) for name, row in rows.items()}


def cost_ms(chooser: Chooser, row: Row) -> float:
    """The median; an array larger than L2 stands in for the weights that are read between tokens."""
    other, times = np.zeros(1 << 23, np.uint8), []
    for _ in range(ROUNDS):
        other += 1
        began = time.perf_counter()
        chooser.choose(row)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e3


def main() -> None:
    rows, prompt = kinds(), np.random.default_rng(2).integers(0, VOCABULARY, PROMPT).tolist()
    print("| setting | " + " | ".join(rows) + " |\n| --- |" + " --- |" * len(rows))
    for name, how in SETTINGS.items():
        costs = [cost_ms(Chooser(how, prompt), row) for row in rows.values()]
        print(f"| {name} | " + " | ".join(f"{cost:.2f}" for cost in costs) + " |")
    for name, more in (
        ("constraint", {"constraint": Most()}),
        ("logprobs, 20 best", {"logprobs": 20}),
    ):
        costs = [cost_ms(Chooser(Sampling(0.8), prompt, **more), row) for row in rows.values()]
        print(f"| temperature 0.8, {name} | " + " | ".join(f"{cost:.2f}" for cost in costs) + " |")
    more = {"constraint": Most(), "logprobs": 20}
    costs = [
        cost_ms(Chooser(SETTINGS["everything, top-k 100,000"], prompt, **more), row)
        for row in rows.values()
    ]
    print(
        "| everything, constraint, logprobs | " + " | ".join(f"{cost:.2f}" for cost in costs) + " |"
    )


if __name__ == "__main__":
    main()
