"""The one place that reads HEARTH_* variables: what a command's own options leave open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from hearth.runtime.machine.wishes import Wishes
    from hearth.runtime.progress import Progress

THREADS, ISA, AFFINITY = "HEARTH_THREADS", "HEARTH_ISA", "HEARTH_AFFINITY"


@dataclass(frozen=True)
class Placing:
    """Where threads stay and what becomes of pages, as the command line has it."""

    affinity: str | None = None
    prefill_affinity: str | None = None
    decode_affinity: str | None = None
    prefault: bool = False
    huge_pages: bool = False
    lock: bool = False

    def wishes(self, progress: Progress | None = None) -> Wishes:
        """As keyword arguments of `load`; `progress` is told what is read then."""
        return {
            "affinity": self.affinity,
            "prefill_affinity": self.prefill_affinity,
            "decode_affinity": self.decode_affinity,
            "prefault": self.prefault,
            "huge_pages": self.huge_pages,
            "lock": self.lock,
            "progress": progress,
        }


USUAL = Placing()


@dataclass(frozen=True)
class Options:
    """How to run a model here; None is the default of `load`."""

    threads: int | None = None
    isa: str | None = None
    placing: Placing = USUAL


def read_options(
    threads: int | None,
    isa: str | None,
    environment: Mapping[str, str] | None = None,
    placing: Placing = USUAL,
) -> Options:
    """Options given on the command line over those of the environment; an empty variable says nothing."""
    variables = os.environ if environment is None else environment
    if threads is None and variables.get(THREADS):
        threads = _threads(variables[THREADS])
    if placing.affinity is None and variables.get(AFFINITY):
        placing = replace(placing, affinity=variables[AFFINITY])
    return Options(threads, isa or variables.get(ISA) or None, placing)


def _threads(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            "arguments.threads", f"{THREADS} is {text!r}", expected="a number of threads"
        ) from None
