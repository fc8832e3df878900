"""The memory plan of one entry's arena: live ranges -> offsets, each buffer into its tightest gap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hearth.compiler.lower.blocks import ALIGN, round_up
from hearth.schemas.program import Command, Region


@dataclass(frozen=True)
class LiveRange:
    """A buffer and the commands from its first to its last use, both included."""

    value: int
    nbytes: int
    first: int
    last: int

    def meets(self, other: LiveRange) -> bool:
        """Both are alive during some command (an input and an output of one command never share bytes)."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets by value; `nbytes` is the high-water mark, `lower_bound` what no plan can go below."""

    offsets: Mapping[int, int]
    nbytes: int
    lower_bound: int


def live_ranges(commands: Iterable[Command], sizes: Mapping[int, int]) -> list[LiveRange]:
    """One range per arena value; a view counts as a use of its base, for it carries the same number."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, command in enumerate(commands):
        for operand in command.operands:
            if operand is not None and operand.region is Region.ARENA:
                first.setdefault(operand.value, index)
                last[operand.value] = index
    return [
        LiveRange(value, round_up(sizes[value], ALIGN), first[value], last[value])
        for value in first
    ]


# What is placed first finds the most room: each order is tried, and improved on, and the smallest plan kept.
ORDERS: tuple[Callable[[LiveRange], tuple[int, ...]], ...] = (
    lambda live: (-live.nbytes, live.first, live.value),
    lambda live: (-live.nbytes * (live.last - live.first + 1), live.first, live.value),
    lambda live: (live.first, -live.nbytes, live.value),
)
ROUNDS = 24


def plan(commands: Iterable[Command], sizes: Mapping[int, int]) -> Plan:
    """Greedy best fit in several orders (the first as Pisarchyk & Lee 2020, arXiv:2001.03288, "greedy by size")."""
    ranges = live_ranges(commands, sizes)
    bound = _lower_bound(ranges)
    plans = [_improved(sorted(ranges, key=order), bound) for order in ORDERS]
    return min(plans, key=lambda made: made.nbytes)


def _improved(ranges: list[LiveRange], bound: int) -> Plan:
    """Whoever sticks out at the top goes first in the next round (Joslin & Clements 1999, "squeaky wheel")."""
    best = Plan({}, sum(live.nbytes for live in ranges) + 1, bound)
    for _ in range(ROUNDS):
        placed = _place(ranges)
        nbytes = max((at + live.nbytes for at, live in placed), default=0)
        if nbytes < best.nbytes:
            best = Plan({live.value: at for at, live in placed}, nbytes, bound)
        if nbytes == bound:
            break
        top = next(live for at, live in placed if at + live.nbytes == nbytes)
        ranges = [top, *(live for live in ranges if live is not top)]
    return best


def _place(ranges: Iterable[LiveRange]) -> list[tuple[int, LiveRange]]:
    """Each buffer, in this order, into the tightest gap that those placed before leave."""
    placed: list[tuple[int, LiveRange]] = []
    for live in ranges:
        busy = sorted((at, at + other.nbytes) for at, other in placed if live.meets(other))
        placed.append((_tightest_gap(busy, live.nbytes), live))
    return placed


def _tightest_gap(busy: Iterable[tuple[int, int]], nbytes: int) -> int:
    """The start of the smallest gap that holds nbytes, else the end of all."""
    best: tuple[int, int] | None = None
    end = 0
    for start, stop in busy:
        gap = start - end
        if gap >= nbytes and (best is None or gap < best[0]):
            best = gap, end
        end = max(end, stop)
    return end if best is None else best[1]


def _lower_bound(ranges: Iterable[LiveRange]) -> int:
    """The most bytes alive during any one command."""
    events = [event for live in ranges for event in ((live.first, live), (live.last + 1, live))]
    high = alive = 0
    for at, live in sorted(events, key=lambda event: (event[0], event[1].first == event[0])):
        alive += live.nbytes if live.first == at else -live.nbytes
        high = max(high, alive)
    return high
