"""Allocation against brute force on made-up tables, and its bounds on large ones."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hearth.compiler.judge import allocate
from hearth.compiler.judge.allocate import Choice, Front, Tensor


def table(seed: int, tensors: int, choices: int, sizes: int = 100) -> list[Tensor]:
    """Losses fall with the size, but not always."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(tensors):
        weight = draw.integers(1, sizes)
        made.append(
            Tensor(
                f"t{number}",
                tuple(
                    Choice(
                        f"s{each}",
                        int(weight * (each + 1) * 64 + draw.integers(0, 64)),
                        float(weight * 4.0**-each * draw.uniform(0.2, 2)),
                    )
                    for each in range(choices)
                ),
            )
        )
    return made


def every(tensors: list[Tensor]) -> list[tuple[int, float]]:
    return [
        (sum(choice.nbytes for choice in chosen), sum(choice.loss for choice in chosen))
        for chosen in product(*(tensor.choices for tensor in tensors))
    ]


@pytest.mark.parametrize("seed", range(8))
def test_the_front_is_that_of_brute_force(seed: int) -> None:
    tensors = table(seed, 5, 5)
    front, points = Front(tensors), every(tensors)
    for nbytes in np.quantile([size for size, _ in points], [0.0, 0.1, 0.37, 0.5, 0.9, 1.0]):
        found = front.best(nbytes)
        assert found is not None
        assert found.nbytes <= nbytes
        wanted = min(loss for size, loss in points if size <= nbytes)
        assert found.loss == pytest.approx(wanted, rel=1e-12)
    for loss in np.quantile([loss for _, loss in points], [0.001, 0.1, 0.5, 1.0]):
        small = front.smallest(loss)
        assert small is not None
        assert small.loss <= loss
        assert small.nbytes == min(size for size, each in points if each <= loss)


def test_what_cannot_be_is_none() -> None:
    tensors = table(1, 4, 3)
    front, points = Front(tensors), every(tensors)
    assert front.least_nbytes == min(size for size, _ in points)
    assert front.best(front.least_nbytes - 1) is None
    least = min(loss for _, loss in points)
    assert front.smallest(least * 0.99) is None
    found = front.smallest(least * 1.0000001)
    assert found is not None
    assert front.smallest(least * 1.0000001, found.nbytes - 1) is None
    assert front.smallest(least * 1.0000001, found.nbytes) is not None


def test_choices_belong_to_their_tensors_and_equal_tables_give_equal_results() -> None:
    tensors = table(3, 12, 6)
    one, other = Front(tensors).best(200_000), Front(tensors).best(200_000)
    assert one is not None
    assert one == other
    assert all(choice in tensor.choices for tensor, choice in zip(tensors, one.chosen, strict=True))


@pytest.mark.parametrize("points", [50, 1000])
def test_a_thinned_front_stays_near_the_optimum(
    points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a step of the size for each tensor: what fits that much less has no less loss."""
    tensors = table(5, 14, 7)
    whole = Front(tensors)
    monkeypatch.setattr(allocate, "MOST_POINTS", points)
    thin = Front(tensors)
    most = sum(max(choice.nbytes for choice in tensor.choices) for tensor in tensors)
    slack = len(tensors) * most / (points - 1)
    for nbytes in np.linspace(whole.least_nbytes, most, 9):
        found, bound = thin.best(nbytes), whole.best(nbytes - slack)
        assert found is not None
        assert found.nbytes <= nbytes
        assert bound is None or found.loss <= bound.loss * (1 + 1e-12)
    assert thin.least_nbytes == whole.least_nbytes


def test_an_empty_table_has_one_allocation() -> None:
    found = Front([]).best(0)
    assert found is not None
    assert (found.nbytes, found.loss) == (0, 0)
