"""Several sessions of one model read tokens in the same runs, so that its weights are read once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.session import Executor, Ids, Logits, Segment, Session
from hearth.schemas.errors import UsageError

StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Turn(Generic[StateT]):
    """What a session reads in a step: ids[T], with logits wanted for the last `rows` of them."""

    session: Session[StateT]
    ids: Ids
    rows: int = 1


def decode_together(turns: Sequence[tuple[Session[StateT], int]]) -> Logits:
    """Each session reads one token; the logits f32[B, V] after them, a row for each of the B pairs.

    A row has the bits of `session.decode(token)`. Refuses, and then changes nothing: sessions of different models,
    one given twice, and what `decode` refuses (the error says which turn).
    """
    return _read([Turn(session, (token,)) for session, token in turns])


def step(
    turns: Sequence[Turn[StateT]], *, between: Callable[[], None] | None = None
) -> list[Logits]:
    """Each session reads its ids, prompts beside single tokens; the logits f32[rows, V] of each turn.

    Turns share runs as far as those have room, in their order; this and the number of turns change no bit. `between`
    is called before each run; it may raise to give up, which leaves all sessions as they were, as errors do.
    """
    logits = _read(turns, between)
    ends = np.cumsum([turn.rows for turn in turns])
    return [logits[end - turn.rows : end] for turn, end in zip(turns, ends, strict=True)]


def _read(turns: Sequence[Turn[StateT]], between: Callable[[], None] | None = None) -> Logits:
    if not turns:
        raise _refusal("there are no turns", "at least one")
    executor = turns[0].session.executor
    tokens = _checked(turns, executor)
    logits = np.empty((sum(turn.rows for turn in turns), executor.vocab), np.float32)
    row = 0
    for run in _runs(turns, tokens, executor):
        if between is not None:
            between()
        end = row + sum(segment.rows for segment in run.segments)
        executor.run_segments(run.segments, np.concatenate(run.tokens), logits[row:end])
        row = end
    for turn, read in zip(turns, tokens, strict=True):
        turn.session.keep(read)
    return logits


def _checked(turns: Sequence[Turn[StateT]], executor: Executor[StateT]) -> list[NDArray[np.int32]]:
    """The ids of every turn, all of which can be read."""
    found: list[NDArray[np.int32]] = []
    for index, turn in enumerate(turns):
        where = f"turn {index}"
        if turn.session.executor is not executor:
            raise _refusal(
                "its session is of another model than that of turn 0", "one model", where
            )
        if any(turn.session is other.session for other in turns[:index]):
            raise _refusal("its session has a turn already", "one turn for each session", where)
        ids = turn.session.checked(turn.ids, where)
        if not 0 <= turn.rows <= len(ids):
            raise _refusal(f"{turn.rows} rows of logits", f"0 to {len(ids)}, its tokens", where)
        found.append(ids)
    return found


@dataclass(frozen=True)
class _Run(Generic[StateT]):
    segments: list[Segment[StateT]]
    tokens: list[NDArray[np.int32]]

    def room(self, executor: Executor[StateT]) -> tuple[int, int]:
        """Tokens and rows of logits that still fit."""
        if len(self.segments) == executor.segments:
            return 0, 0
        tokens = sum(segment.tokens for segment in self.segments)
        return executor.chunk - tokens, executor.logit_rows - sum(s.rows for s in self.segments)


def _runs(
    turns: Sequence[Turn[StateT]], tokens: Sequence[NDArray[np.int32]], executor: Executor[StateT]
) -> Iterator[_Run[StateT]]:
    """The turns cut into runs; only a full run cuts a turn, so that no session is in one run twice."""
    run: _Run[StateT] = _Run([], [])
    for turn, ids in zip(turns, tokens, strict=True):
        silent, start = len(ids) - turn.rows, 0  # `silent` tokens come before the first with logits
        while start < len(ids):
            room, rows = run.room(executor)
            end = min(start + room, len(ids), max(silent, start) + rows)
            if end == start:
                yield run
                run = _Run([], [])
                continue
            wanted = max(0, end - max(silent, start))
            position = turn.session.position + start
            session = turn.session
            run.segments.append(
                Segment(session.state, end - start, position, wanted, session.adapter)
            )
            run.tokens.append(ids[start:end])
            start = end
            if start < len(ids):
                yield run
                run = _Run([], [])
    yield run


def _refusal(found: str, expected: str, where: str = "") -> UsageError:
    return UsageError("arguments.batch", found, expected=expected, where=where)
