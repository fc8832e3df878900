"""One step of many rows: a token of each that writes, and a share of the prompts, in one run of the model.

Prompts take their shares in turns. A row's tokens do not depend on what is read beside it (batch.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from hearth.runtime.batch import Turn, step
from hearth.runtime.serving.rows import Row
from hearth.runtime.session import Executor

SHARE = 32  # tokens of prompts in a step that also writes: a step of 8 + 32 rows is some three times one of 8


class Rows:
    """The rows being served by one model; `step` serves all of them once."""

    def __init__(self, executor: Executor[Any], share: int = SHARE) -> None:
        self._chunk, self._share = executor.chunk, share
        self._writing: list[Row] = []
        self._reading: deque[Row] = deque()

    def __len__(self) -> int:
        return len(self._writing) + len(self._reading)

    def __iter__(self) -> Iterator[Row]:
        yield from self._writing
        yield from self._reading

    def add(self, row: Row) -> None:
        """From the next step on."""
        self._reading.append(row)

    def step(self) -> None:
        """Read and write once. Where the model itself fails, so do all the rows of the step."""
        turns = {row: row.write() for row in self._writing} | self._shares()
        for row, turn, logits in zip(
            turns, turns.values(), _read(list(turns.values())), strict=True
        ):
            row.take(turn, logits)
        self._reading.rotate(-1)
        self._writing += [row for row in self._reading if not row.reading]
        self._reading = deque(row for row in self._reading if row.reading)

    def let_go(self) -> list[Row]:
        """Take out the rows that have ended."""
        gone = [row for row in self if row.ended]
        if gone:
            self._writing = [row for row in self._writing if not row.ended]
            self._reading = deque(row for row in self._reading if not row.ended)
        return gone

    def _shares(self) -> dict[Row, Turn[Any]]:
        """Parts of prompts, the first of the queue first: a whole run where nobody writes."""
        left = self._chunk - len(self._writing)
        if self._writing:
            left = max(1, min(left, self._share))
        shares: dict[Row, Turn[Any]] = {}
        for row in self._reading:
            if left <= 0:
                break
            shares[row] = row.read(left)
            left -= len(shares[row].ids)
        return shares


def _read(turns: list[Turn[Any]]) -> list[Any]:
    """The logits of each turn; one token alone by the entry that is for it."""
    if len(turns) == 1 and len(turns[0].ids) == turns[0].rows == 1:
        (turn,) = turns
        return [turn.session.decode(turn.ids[0])[None]]
    return step(turns)
