"""Temperature, top-k and top-p keep the tokens that transformers keeps, with its probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.runtime import sampling

torch = pytest.importorskip("torch", reason="needs the parity extra")
warpers = pytest.importorskip("transformers.generation.logits_process")

CASES = [
    (1.0, 0, 0.9), (0.7, 40, 0.95), (1.5, 5, 1.0), (0.3, 0, 0.5), (2.0, 1, 0.1), (1.0, 900, 0.999),
]  # fmt: skip


def theirs(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    chain = [warpers.TemperatureLogitsWarper(temperature)]
    chain += [warpers.TopKLogitsWarper(top_k)] if top_k else []
    chain += [warpers.TopPLogitsWarper(top_p)] if top_p < 1 else []
    scores = torch.tensor(logits[None], dtype=torch.float64)
    for warp in chain:
        scores = warp(None, scores)
    return torch.softmax(scores, -1)[0].numpy()


def ours(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    scores = logits.astype(np.float64)
    for process in sampling.processors(sampling.Sampling(temperature, top_k, top_p)):
        scores = process((), scores)
    weights = sampling.exp(scores - scores.max())
    return weights / np.cumsum(weights)[-1]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_probabilities_are_equal(case: tuple[float, int, float], seed: int) -> None:
    """1000 terms of a sum and an exp apart: about a thousand units in the last place."""
    logits = (np.random.default_rng(seed).standard_normal(1000) * 3).astype(np.float32)
    found, expected = ours(logits, *case), theirs(logits, *case)
    assert np.array_equal(found > 0, expected > 0)
    assert np.abs(found - expected).max() <= 2000 * np.finfo(np.float64).eps
