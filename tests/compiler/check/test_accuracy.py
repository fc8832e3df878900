"""The figures of a comparison against their definitions, and gates at, above and below their bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hearth.compiler.check.accuracy import (
    Figures,
    accuracy,
    array_figures,
    kld,
    logits_figures,
    require,
    vector_figures,
)
from hearth.schemas.errors import LimitError
from hearth.schemas.recipe import Gate

FIGURES = Figures("a", 4, max_error=0.5, largest=2.0, kld_mean=0.01, kld_max=0.1, top1=0.75)


def test_divergence_of_two_known_distributions() -> None:
    """KL((1/2, 1/2) || (1/4, 3/4)) = log 2 - log(3) / 2."""
    p, q = np.log(np.float32([0.5, 0.5])), np.log(np.float32([0.25, 0.75]))
    assert kld(p, q) == pytest.approx(np.log(2) - np.log(3) / 2, rel=1e-6)


def test_a_shift_of_all_logits_is_no_divergence() -> None:
    row = np.float32([1, 2, 3])
    assert kld(row, row + 64) == 0


def test_divergence_of_extreme_logits_is_finite() -> None:
    assert kld(np.float32([0, 1000]), np.float32([1000, 0])) == 1000


def test_the_figures_of_logits() -> None:
    source = np.float32([[0, 4], [1, -2], [3, 1]])
    found = np.float32([[0, 4], [1, 2], [3, 1.5]])
    figures = logits_figures("x", source, found)
    assert (figures.rows, figures.max_error, figures.largest) == (3, 4.0, 4.0)
    assert figures.relative == 1.0
    assert figures.top1 == pytest.approx(2 / 3)
    assert figures.kld_max == max(kld(a, b) for a, b in zip(source, found, strict=True))


def test_the_cosine() -> None:
    figures = vector_figures("x", np.float32([3, 4]), np.float32([4, 3]))
    assert figures.cosine == pytest.approx(24 / 25)
    assert vector_figures("x", np.zeros(2, np.float32), np.zeros(2, np.float32)).cosine == 1.0


def test_arrays_agree_where_both_are_not_finite() -> None:
    source = np.array([1.0, np.inf, np.nan, -2.0])
    assert array_figures("x", source, source.copy()).max_error == 0
    assert array_figures("x", source, np.array([1.5, np.inf, np.nan, -2.0])).max_error == 0.5
    assert array_figures("x", source, np.array([1.0, np.inf, 0.0, -2.0])).max_error == np.inf
    assert array_figures("x", np.zeros((0, 3)), np.zeros((0, 3))).max_error == 0
    assert array_figures("x", np.array([True]), np.array([False])).max_error == 1


def test_all_inputs_together() -> None:
    other = replace(FIGURES, name="b", rows=1, max_error=3.0, kld_mean=0.06, kld_max=0.2, top1=1.0)
    total = accuracy([FIGURES, other]).total
    assert (total.rows, total.max_error, total.kld_max) == (5, 3.0, 0.2)
    assert total.kld_mean == pytest.approx(0.02)
    assert total.top1 == pytest.approx(0.8)
    assert total.cosine is None


@pytest.mark.parametrize(
    ("gate", "missed"),
    [
        (Gate(), ""),
        (Gate(max_error=0.25, max_kld=0.01, min_top1=0.75), ""),
        (Gate(max_error=0.2), "max_error"),
        (Gate(max_kld=0.009), "max_kld"),
        (Gate(min_top1=0.76), "min_top1"),
    ],
    ids=str,
)
def test_a_gate_names_what_is_missed(gate: Gate, missed: str) -> None:
    found = accuracy([FIGURES])
    if not missed:
        require(found, gate)
        return
    with pytest.raises(LimitError, match=missed) as refused:
        require(found, gate)
    assert (refused.value.code, refused.value.exit_code) == ("check.accuracy", 8)


def test_what_is_no_number_misses_every_bound() -> None:
    found = accuracy([replace(FIGURES, max_error=float("nan"), kld_mean=float("nan"))])
    with pytest.raises(LimitError, match=r"max_error nan.*max_kld nan"):
        require(found, Gate(max_error=1e9, max_kld=1e9))
