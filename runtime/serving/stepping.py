"""One step of many rows: a token of each that writes, and a share of the prompts, in one run of the model.

The prompt with the least left to read goes first. A row's tokens do not depend on what is read beside it (batch.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hearth.runtime.batch import Turn, step
from hearth.runtime.contexts.prefix_cache import PrefixCache
from hearth.runtime.serving.pacing import Pacing
from hearth.runtime.serving.rows import Clock, Row
from hearth.runtime.session import Executor
from hearth.schemas.errors import ResourceError

GUESSING = 9  # tokens, guesses among them, that rows write in a step: with more rows there are fewer guesses each
WORTH_WAITING = 16  # tokens that another prompt shares and is about to read
AGE = 4  # in one step of so many the oldest prompt reads first, however many short ones come


@dataclass(frozen=True)
class Wait:
    """For another row to read the first `count` tokens, which this one shares."""

    leader: Row
    count: int

    @property
    def over(self) -> bool:
        """They are read, or will not be."""
        leader = self.leader
        return leader.ended or not leader.reading or leader.session.position >= self.count


class Rows:
    """The rows being served by one model; `step` serves all of them once."""

    def __init__(
        self, executor: Executor[Any], prefixes: PrefixCache, gap_s: float, clock: Clock
    ) -> None:
        self._chunk, self._prefixes, self._clock = executor.chunk, prefixes, clock
        self._pacing = Pacing(gap_s, executor.chunk)
        self._writing: list[Row] = []
        self._reading: list[Row] = []  # as they came
        self._waits: dict[Row, Wait] = {}
        self._steps = 0

    def __len__(self) -> int:
        return len(self._writing) + len(self._reading)

    def __iter__(self) -> Iterator[Row]:
        yield from self._writing
        yield from self._reading

    def add(self, row: Row) -> None:
        """From the next step on."""
        row.fill(self._prefixes)
        waits = [Wait(other, row.shared(other)) for other in self._reading]
        longest = max(waits, key=lambda wait: wait.count, default=None)
        if longest is not None and longest.count >= row.session.position + WORTH_WAITING:
            self._waits[row] = longest
        self._reading.append(row)

    def step(self) -> None:
        """Read and write once. Where the model itself fails, so do all the rows of the step."""
        began = self._clock()
        self._stop_waiting()
        self._slide()
        guesses = GUESSING // len(self._writing) - 1 if self._writing else 0
        writing = {row: row.write(guesses) for row in self._writing}
        reading = self._shares(_tokens(writing))
        turns = writing | reading
        for row, turn, logits in zip(
            turns, turns.values(), _read(list(turns.values())), strict=True
        ):
            row.take(turn, logits)
        if writing and reading:
            self._pacing.learn(_tokens(turns), self._clock() - began)
        self._steps += 1
        self._begin_to_write()

    def _begin_to_write(self) -> None:
        """Rows whose prompts are read."""
        read = [row for row in self._reading if not row.reading]
        for row in read:
            self._keep(row)
        self._writing += read
        self._reading = [row for row in self._reading if row.reading]

    def let_go(self) -> list[Row]:
        """Take out the rows that have ended."""
        gone = [row for row in self if row.ended]
        for row in gone:
            self._keep(row)
            self._waits.pop(row, None)
        if gone:
            self._writing = [row for row in self._writing if not row.ended]
            self._reading = [row for row in self._reading if not row.ended]
        return gone

    def _slide(self) -> None:
        """Rows that write beyond their context read again before they go on."""
        full = [row for row in self._writing if row.full]
        for row in full:
            row.slide()
        self._writing = [row for row in self._writing if row not in full]
        self._reading.extend(full)

    def _stop_waiting(self) -> None:
        for row, wait in [each for each in self._waits.items() if each[1].over]:
            if not wait.leader.ended:
                self._keep(wait.leader, wait.count)
            row.fill(self._prefixes)
            del self._waits[row]

    def _keep(self, row: Row, count: int | None = None) -> None:
        with suppress(ResourceError):  # no memory for it: then nothing is kept
            self._prefixes.keep(row.session, count)

    def _shares(self, writing: int) -> dict[Row, Turn[Any]]:
        """Parts of prompts beside so many tokens that are written: a whole run where there are none."""
        left = self._pacing.share(writing) if writing else self._chunk
        shares: dict[Row, Turn[Any]] = {}
        for row in self._line():
            if left <= 0:
                break
            shares[row] = row.read(left)
            left -= len(shares[row].ids)
        return shares

    def _line(self) -> list[Row]:
        """Who reads first: whoever has the least to read, and now and then who came first."""
        line = [row for row in self._reading if row not in self._waits]
        first = line[0] if line and self._steps % AGE == 0 else None
        return sorted(line, key=lambda row: (row is not first, row.unread))


def _tokens(turns: dict[Row, Turn[Any]]) -> int:
    return sum(len(turn.ids) for turn in turns.values())


def _read(turns: list[Turn[Any]]) -> list[Any]:
    """The logits of each turn; one token alone by the entry that is for it."""
    if len(turns) == 1 and len(turns[0].ids) == turns[0].rows == 1:
        (turn,) = turns
        return [turn.session.decode(turn.ids[0])[None]]
    return step(turns)
