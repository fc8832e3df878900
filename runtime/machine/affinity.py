"""The cores that threads stay on: those asked for, by phase, and where nobody asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import index

from hearth.runtime.machine.topology import MOST_CORES, best_cores, core_list
from hearth.schemas.errors import UsageError

Cores = tuple[int, ...]
Asked = str | Iterable[int]  # "0-3,8", "0x10f", or numbers


@dataclass(frozen=True)
class Affinity:
    """Cores asked for: of a phase its own, else those for all; None where nobody asked."""

    everywhere: Cores | None = None
    prefill: Cores | None = None
    decode: Cores | None = None

    def of(self, entry: str) -> Cores | None:
        """The cores for the runs of an entry."""
        phase = PHASES.get(entry)
        own = None if phase is None else phase(self)
        return self.everywhere if own is None else own

    @property
    def by_phase(self) -> bool:
        """Whether a phase has cores of its own."""
        return self.prefill is not None or self.decode is not None

    def threads(self) -> int | None:
        """As many as there are cores in what was asked for all; None where that is not said."""
        masks = [self.prefill or self.everywhere, self.decode or self.everywhere]
        sizes = [len(mask) for mask in masks if mask is not None]
        return max(sizes) if len(sizes) == len(masks) else None


PHASES: Mapping[str, Callable[[Affinity], Cores | None]] = {
    "prefill": lambda affinity: affinity.prefill,
    "decode": lambda affinity: affinity.decode,
    "hidden": lambda affinity: affinity.prefill,
}


def read_affinity(
    everywhere: Asked | None = None, prefill: Asked | None = None, decode: Asked | None = None
) -> Affinity:
    """Masks as a user gives them. UsageError arguments.affinity for what is no mask, or not of this process."""
    return Affinity(
        _checked(everywhere, "affinity"),
        _checked(prefill, "prefill affinity"),
        _checked(decode, "decode affinity"),
    )


def check_count(affinity: Affinity, entries: Iterable[str], threads: int) -> None:
    """Refuses more threads than cores asked for."""
    for entry in entries:
        cores = affinity.of(entry)
        if cores is not None and len(cores) < threads:
            raise UsageError(
                "arguments.affinity",
                f"{threads} threads on {count_of(cores)}, {spelled(cores)} ({entry})",
                expected="at least one core for each thread",
                remedy=f"ask for {len(cores)} threads, or for more cores",
            )


def default_places(threads: int, allowed: Iterable[int] | None = None) -> list[Cores]:
    """Where threads stay when nobody asks: cores of each, or nothing where the system decides.

    One core each where there are as many threads as cores worth one; fewer threads share those, if there are others
    (little cores, second threads of a core).
    """
    usable = tuple(sorted(usable_cores() if allowed is None else allowed))
    best = best_cores(usable)
    if len(best) == threads > 1:
        return [(core,) for core in best]
    return [best] * threads if threads < len(best) < len(usable) else []


def usable_cores() -> frozenset[int]:
    """The cores that this thread may use."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return frozenset(range(os.cpu_count() or 1))


def spelled(cores: Iterable[int]) -> str:
    """(0, 1, 2, 8) -> '0-2,8'"""
    ordered, parts = sorted(cores), list[str]()
    while ordered:
        length = 1
        while length < len(ordered) and ordered[length] == ordered[0] + length:
            length += 1
        first, last = ordered[0], ordered[length - 1]
        parts.append(f"{first}-{last}" if length > 1 else str(first))
        del ordered[:length]
    return ",".join(parts)


def count_of(cores: Cores) -> str:
    return "1 core" if len(cores) == 1 else f"{len(cores)} cores"


def _checked(asked: Asked | None, name: str) -> Cores | None:
    if asked is None:
        return None
    try:
        cores = (
            _parsed(asked)
            if isinstance(asked, str)
            else tuple(sorted({index(core) for core in asked}))
        )
        if not cores:
            raise ValueError("it names no core")
    except (TypeError, ValueError) as error:
        raise UsageError(
            "arguments.affinity",
            f"the {name} {asked!r:.80}: {error}",
            expected="cores such as 0-3,8, or a mask in hexadecimal such as 0x10f",
        ) from None
    usable = usable_cores()
    strange = [core for core in cores if core not in usable]
    if strange:
        raise UsageError(
            "arguments.affinity",
            f"the {name} names core {strange[0]}, which this process may not use",
            expected=f"some of {spelled(usable)}",
        )
    return cores


def _parsed(text: str) -> Cores:
    """'0x5' -> (0, 2); '0-2,8' -> (0, 1, 2, 8)"""
    if not text.lower().startswith("0x"):
        return core_list(text)
    mask = int(text, 16)
    if mask >> MOST_CORES:
        raise ValueError(f"cores are numbered up to {MOST_CORES - 1}")
    return tuple(core for core in range(mask.bit_length()) if mask >> core & 1)
