"""The rates of `hearth bench --batch` follow from the clock: each size's own, in turn, the first run left out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from hearth.runtime import load
from hearth.runtime.commands.bench_batch import BATCH_COLUMNS, Steps, batch_rates
from hearth.schemas.errors import InputError, UsageError

if TYPE_CHECKING:
    from conftest import Archives


def test_rates(archives: Archives) -> None:
    """A clock that goes on by 12 ms for a step of one row alone, by 16 ms for two steps of one, 24 of four."""
    model = load(archives("tiny", weights="int4"), threads=2)
    spans = itertools.cycle((0.024, 0.032, 0.048))
    ticks = itertools.accumulate(x for span in spans for x in (5.0, span))
    steps = Steps(prompt=4, count=2, runs=3, clock=lambda: next(ticks))
    found = batch_rates(model, [1, 4], steps)
    assert [each["rows"] for each in found] == [1, 4]
    assert [each["step_s"] for each in found] == pytest.approx([0.016, 0.024])
    assert [each["tokens_per_s"] for each in found] == pytest.approx([1 / 0.016, 4 / 0.024])
    assert [each["gain"] for each in found] == pytest.approx([0.75, 2.0])
    assert set(found[0]) == set(BATCH_COLUMNS)
    assert all(show(found[1][name]) for name, (_, show) in BATCH_COLUMNS.items())


def test_bad_sizes_are_refused(archives: Archives) -> None:
    model = load(archives("tiny", weights="int4"))
    for sizes, prompt in (([], 4), ([0], 4), ([1], 0)):
        with pytest.raises(UsageError, match="at least 1"):
            batch_rates(model, sizes, Steps(prompt))
    with pytest.raises(InputError, match="tokens read"):
        batch_rates(model, [1], Steps(model.context))
