"""Every token's logits, in chunks, against one plain computation."""

from __future__ import annotations

import numpy as np
import pytest
from support.fake_executor import FakeExecutor

from hearth.runtime.evaluation.scoring import ROWS, each_row, log_probabilities, surprise


def plain(executor: FakeExecutor, ids: np.ndarray) -> np.ndarray:
    return np.stack([executor.logits(ids[: n + 1].astype(np.int64)) for n in range(len(ids) - 1)])


@pytest.mark.parametrize("chunk", [1, 3, 8, 40])
@pytest.mark.parametrize("length", [2, 8, 9, 41])
def test_each_row_gives_all_logits_but_the_last_in_order(chunk: int, length: int) -> None:
    executor = FakeExecutor(chunk=chunk)
    ids = np.random.default_rng(chunk + length).integers(0, 50, length).astype(np.int32)
    pairs = [(logits.copy(), following.copy()) for logits, following in each_row(executor, ids)]
    assert max(len(following) for _, following in pairs) <= ROWS
    assert np.array_equal(np.concatenate([following for _, following in pairs]), ids[1:])
    assert np.array_equal(np.concatenate([logits for logits, _ in pairs]), plain(executor, ids))


def test_log_probabilities_are_of_a_distribution_and_hold_extremes() -> None:
    logits = np.array([[0.0, 1.0, 2.0], [1e4, -1e4, 0.0], [-88.0, -88.0, -88.0]], np.float32)
    found = log_probabilities(logits)
    assert np.allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-14, atol=0)
    assert np.allclose(found[2], -np.log(3.0), rtol=1e-14)
    following = np.array([2, 1, 0], np.int32)
    assert np.allclose(surprise(logits, following), -found[np.arange(3), following], rtol=1e-14)
