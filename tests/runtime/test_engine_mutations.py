"""Programs broken at random are refused or run: none makes the executor crash or hang."""

from __future__ import annotations

import random

import pytest
from support.broken_programs import broken, broken_ports
from support.engines import ENCODER, PROGRAM, Line, Talk, ready
from support.forks import in_child

from hearth.runtime import native

PROGRAMS = 400


def _try(seed: int) -> bool:
    rng = random.Random(seed)
    threads, isa = rng.choice((1, 2, 3)), rng.choice(native.isas())
    try:
        talk = Talk(
            ready(threads, isa, broken(rng, rng.choice((PROGRAM, ENCODER))), broken_ports(rng))
        )
        for tokens, rows in ((1, 1), (12, 0), (5, 5)):
            talk.feed([44] * tokens, rows)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("program", [PROGRAM, ENCODER], ids=["decoder", "encoder"])
def test_whole_programs_run(program: tuple[Line, ...]) -> None:
    Talk(ready(2, "portable", program)).feed([44] * 5)


@pytest.mark.parametrize("part", range(4))
def test_broken_programs(part: int) -> None:
    def work() -> None:
        ran = sum(_try(seed) for seed in range(part * PROGRAMS, (part + 1) * PROGRAMS))
        assert 0 < ran < PROGRAMS  # some are refused, and some mutations do no harm

    in_child(work)
