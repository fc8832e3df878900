"""Activations `auto`: as few inputs stay dynamic as the archive's own surprise allows, in few trials."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.compiler.calibrate.measure import codes_of, loudest_of, note_input, spared
from hearth.compiler.judge.activations import MOST_LOSS, choose

INPUTS = [(f"q{n}", f"k{n}") if n % 3 == 0 else (f"d{n}",) for n in range(25)]


@pytest.mark.parametrize("loud", range(26))
def test_only_what_is_needed_stays_dynamic(loud: int) -> None:
    """Each of the loud inputs costs more than all that is allowed, the others together a part of it."""
    asked = []
    needed = {name for names in INPUTS[:loud] for name in names}

    def loss(dynamic: frozenset[str]) -> float:
        asked.append(dynamic)
        return 1.5 + 2 * MOST_LOSS * len(needed - dynamic) + (50 - len(dynamic)) * MOST_LOSS / 60

    choice = choose(INPUTS, loss)
    assert choice.dynamic == needed and choice.kept == loud and choice.inputs == 25
    assert (choice.taken <= MOST_LOSS) and (choice.all_static <= MOST_LOSS) == (loud == 0)
    assert len(asked) <= 2 + 5
    assert f"{25 - loud} of 25 inputs are static" in choice.note


def test_the_loudest_are_those_that_one_scale_serves_worst() -> None:
    random = np.random.default_rng(0)
    even = random.standard_normal((64, 32)).astype(np.float32)
    loud = even * np.where(np.arange(64) == 5, 300, 1)[:, None].astype(np.float32)
    found: dict[str, object] = {}
    for names, values in ((["a", "b"], even), (["c"], loud), (["z"], np.zeros_like(even))):
        note_input(found, names, values, "minmax", True)
    assert loudest_of(found) == (("c",), ("a", "b"), ("z",))
    assert spared(loud, codes_of(loud, "minmax")) > spared(even, codes_of(even, "minmax")) > 0
    assert loudest_of({}) == ()
