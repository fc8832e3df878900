"""Windows, perplexity and its error, on distributions whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
import pytest
from support.fake_executor import FakeExecutor, FakeState

from hearth.runtime.evaluation import Window, compare, perplexity, windows
from hearth.runtime.evaluation.scoring import each_row, surprise
from hearth.schemas.errors import InputError


@dataclass
class Uniform(FakeExecutor):
    """All logits equal, or one token `more` likely."""

    more: float = 0.0

    def run(
        self,
        state: FakeState,
        entry: str,
        tokens: np.ndarray,
        position: int,
        logits: np.ndarray,
        adapter: object = None,
    ) -> None:
        logits[:] = 0
        logits[:, 7] = self.more


def texts(count: int, length: int, token: int | None = None) -> list[Window]:
    draw = np.random.default_rng(count)
    ids = draw.integers(0, 50, count * length) if token is None else np.full(count * length, token)
    return windows(ids, length, None)


def test_windows_are_whole_consecutive_and_bounded() -> None:
    found = windows(range(23), 5, None)
    assert [part.ids.tolist() for part in found] == [
        list(range(5 * n, 5 * n + 5)) for n in range(4)
    ]
    assert {part.scored for part in found} == {4}
    assert len(windows(range(23), 5, 2)) == 2


@pytest.mark.parametrize(("length", "stride"), [(6, 3), (6, 5), (6, 1), (2, 1)])
def test_windows_that_overlap_score_each_id_once_after_enough_others(
    length: int, stride: int
) -> None:
    found = windows(range(23), length, None, stride)
    scored = [window.ids[-window.scored :].tolist() for window in found]
    last = int(found[-1].ids[-1])
    assert [each for part in scored for each in part] == list(range(1, last + 1))
    assert last + stride > 22
    assert {window.scored for window in found[1:]} == {stride}


def test_perplexity_of_overlapping_windows_weighs_each_token_alike() -> None:
    ids = np.random.default_rng(3).integers(0, 50, 40)
    executor = FakeExecutor()
    parts = windows(ids, 16, None, 8)
    nats = [
        np.concatenate([surprise(*pair) for pair in each_row(executor, window.ids)])[
            -window.scored :
        ]
        for window in parts
    ]
    found = perplexity(executor, parts, lambda _: None)
    assert found.tokens == 15 + 3 * 8
    assert found.nats == pytest.approx(float(np.concatenate(nats).mean()), rel=1e-12)


@pytest.mark.parametrize(("count", "length"), [(4, 5), (0, 5), (10, 1)])
def test_text_too_short_is_refused(count: int, length: int) -> None:
    with pytest.raises(InputError) as caught:
        windows(range(count), length, None)
    assert caught.value.code == "input.too_short"


def test_perplexity_of_equal_logits_is_the_vocabulary() -> None:
    told: list[int] = []
    found = perplexity(Uniform(), texts(3, 9), told.append)
    assert (found.tokens, told) == (24, [9, 9, 9])
    assert found.value == pytest.approx(50, rel=1e-14)
    assert found.bits == pytest.approx(log(50) / log(2), rel=1e-14)
    assert found.error == pytest.approx(0, abs=1e-12)
    assert perplexity(Uniform(), texts(1, 9), told.append).error is None


def test_error_is_that_of_the_means_of_windows() -> None:
    parts = [*texts(1, 6, 7), *texts(1, 6, 8)]  # all likely, none likely
    found = perplexity(Uniform(more=2.0), parts, lambda _: None)
    likely, other = -log(exp(2.0) / (exp(2.0) + 49)), -log(1 / (exp(2.0) + 49))
    assert found.nats == pytest.approx((likely + other) / 2, rel=1e-13)
    assert found.nats_error == pytest.approx(abs(likely - other) / 2, rel=1e-13)


def test_compare_with_itself_finds_nothing() -> None:
    found = compare(FakeExecutor(), FakeExecutor(chunk=5), texts(2, 20), lambda _: None)
    assert (found.kld, found.kld_99, found.top1, found.max_difference) == (0.0, 0.0, 1.0, 0.0)
    assert found.increase == 0.0


def test_compare_gives_the_divergence_of_known_distributions() -> None:
    found = compare(Uniform(more=2.0), Uniform(more=3.0), texts(2, 8, 7), lambda _: None)
    p, q = exp(3.0) / (exp(3.0) + 49), exp(2.0) / (exp(2.0) + 49)
    expected = p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))
    assert found.kld == pytest.approx(expected, rel=1e-12)
    assert found.kld_99 == pytest.approx(expected, rel=1e-12)
    assert found.max_difference == pytest.approx(p - q, rel=1e-12)
    assert found.increase == pytest.approx(p / q - 1, rel=1e-12)
