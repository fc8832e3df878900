"""How an archive is used on this machine, as a caller asks for it and as it is once checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from hearth.runtime.binding import checked_isa, checked_threads
from hearth.runtime.machine.affinity import Affinity, Asked, read_affinity
from hearth.runtime.machine.residence import Residence
from hearth.runtime.progress import Progress


class Wishes(TypedDict, total=False):
    """Keyword arguments of `load` and its sisters, none of which changes a result."""

    affinity: Asked | None  # cores for the threads, one each: "0-3,8", a mask "0x10f", or numbers
    prefill_affinity: Asked | None  # of a decoder, for prompts
    decode_affinity: Asked | None  # of a decoder, for single tokens
    prefault: bool  # read the whole archive now
    huge_pages: bool  # so, and once more from the disk where it is cached in small pages
    lock: bool  # so, and keep it in memory
    progress: Progress | None  # told of the reading


@dataclass(frozen=True)
class Machine:
    """Threads, the highest instruction set, where the threads stay, and what becomes of the archive's pages."""

    threads: int
    isa: str
    affinity: Affinity
    residence: Residence
    progress: Progress | None


def machine(threads: int | None, isa: str | None, wishes: Wishes) -> Machine:
    """The wishes, checked: UsageError arguments.threads, arguments.isa or arguments.affinity."""
    affinity = read_affinity(
        wishes.get("affinity"), wishes.get("prefill_affinity"), wishes.get("decode_affinity")
    )
    residence = Residence(
        wishes.get("prefault", False), wishes.get("huge_pages", False), wishes.get("lock", False)
    )
    count = checked_threads(threads, affinity)
    return Machine(count, checked_isa(isa), affinity, residence, wishes.get("progress"))
