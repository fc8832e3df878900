"""The one place that reads HEARTH_* variables: what a command's own options leave open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hearth.schemas.errors import UsageError

THREADS, ISA = "HEARTH_THREADS", "HEARTH_ISA"


@dataclass(frozen=True)
class Options:
    """How to run a model here; None is the default of `load`."""

    threads: int | None = None
    isa: str | None = None


def read_options(
    threads: int | None, isa: str | None, environment: Mapping[str, str] | None = None
) -> Options:
    """Options given on the command line over those of the environment; an empty variable says nothing."""
    variables = os.environ if environment is None else environment
    if threads is None and variables.get(THREADS):
        threads = _threads(variables[THREADS])
    return Options(threads, isa or variables.get(ISA) or None)


def _threads(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            "arguments.threads", f"{THREADS} is {text!r}", expected="a number of threads"
        ) from None
