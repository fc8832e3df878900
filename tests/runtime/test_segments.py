"""Rows of several sequences in one run: each has the bits it has alone, and a refused run changes nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.broken_programs import broken, broken_ports
from support.engines import (
    CONTEXT,
    DIM,
    ENCODER,
    IO,
    KV_NBYTES,
    MOST,
    PROGRAM,
    ROW,
    TOKENS,
    VOCAB,
    Line,
    R,
    T,
    Talk,
    expected,
    ready,
    weights,
)
from support.forks import in_child

from hearth.runtime import native

RNG = np.random.default_rng(3)
TEXTS = RNG.integers(0, VOCAB, (MOST, CONTEXT)).tolist()
# The encoder's vectors in an output of their own: one row of a text, or R rows of the run.
VECTOR = replace(ENCODER[-1], operands=(ENCODER[-1].operands[0], (IO, 64, DIM * 4)))
POOLED = [*ENCODER[:-1], VECTOR]
COUNTED = [replace(line, rows=R) if line.rows == 1 else line for line in POOLED]
Piece = tuple[Talk, Sequence[int], int]  # tokens to read, rows wanted


def feed(engine: native.Engine, pieces: Sequence[Piece]) -> list[np.ndarray]:
    """One run; the logits of each piece."""
    rows = [wanted for _, _, wanted in pieces]
    logits = np.full((sum(rows), VOCAB), np.nan, np.float32)
    ids = np.array([token for _, part, _ in pieces for token in part], np.int32)
    segments = [(talk.state, len(part), talk.position, wanted) for talk, part, wanted in pieces]
    engine.run_segments(0, segments, [ids], [logits])
    for talk, part, _ in pieces:
        talk.position += len(part)
    return np.split(logits, np.cumsum(rows)[:-1])


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("isa", native.isas())
def test_any_mix_of_sequences_gives_the_bits_of_each_alone(isa: str, threads: int) -> None:
    """Single rows beside chunks, at positions from the first to the last, with all, some or no logits."""
    engine, rng = ready(threads, isa), random.Random(threads)
    want = [expected(text) for text in TEXTS]
    talks = [Talk(engine) for _ in TEXTS]
    for _ in range(60):
        room, pieces, found = MOST, [], []
        for index in rng.sample(range(MOST), rng.randint(1, MOST)):
            talk = talks[index]
            if talk.position == CONTEXT:
                talk.position = rng.randrange(CONTEXT)  # rewound
            count = min(rng.choice((1, 1, 1, 2, 5)), room, CONTEXT - talk.position)
            if count == 0:
                break
            end = talk.position + count
            rows = rng.choice((0, 1, count))
            pieces.append((talk, TEXTS[index][talk.position : end], rows))
            found.append(want[index][end - rows : end])
            room -= count
        for got, due in zip(feed(engine, pieces), found, strict=True):
            np.testing.assert_array_equal(got, due)


def test_every_row_is_a_sequence_and_contexts_are_nearly_full() -> None:
    engine = ready(2)
    talks = [Talk(engine) for _ in TEXTS]
    for talk, text in zip(talks, TEXTS, strict=True):
        for start in range(0, CONTEXT - 1, MOST):
            talk.feed(text[start : min(start + MOST, CONTEXT - 1)], 0)
    pieces = [(talk, text[-1:], 1) for talk, text in zip(talks, TEXTS, strict=True)]
    for got, text in zip(feed(engine, pieces), TEXTS, strict=True):
        np.testing.assert_array_equal(got, expected(text)[-1:])


def encoder(program: Sequence[Line], threads: int = 1, isa: str = "portable") -> native.Engine:
    return ready(threads, isa, program, (TOKENS, (64, DIM, program[-1].rows)))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("program", [POOLED, COUNTED], ids=["one_row_each", "R_rows"])
def test_texts_of_an_encoder_share_a_run(isa: str, threads: int, program: list[Line]) -> None:
    """Positions, masks and pooling belong to each text."""
    engine = encoder(program, threads, isa)
    assert not engine.one_sequence(0)
    texts = [text[:count] for text, count in zip(TEXTS, (1, 5, 2, 4), strict=False)]
    alone = np.empty((len(texts), DIM), np.float32)
    for text, row in zip(texts, alone, strict=True):
        ids = np.array(text, np.int32)
        engine.run(native.State(KV_NBYTES), 0, len(text), 0, [ids], [row[None]])
    assert np.isfinite(alone).all()
    found = np.empty_like(alone)
    rows = 1 if program is COUNTED else 0
    segments = [(native.State(KV_NBYTES), len(text), 0, rows) for text in texts]
    ids = np.concatenate(texts, dtype=np.int32)
    engine.run_segments(0, segments, [ids], [found])
    np.testing.assert_array_equal(found, alone)
    with pytest.raises(ValueError, match="output 0 has 3 rows, expected 4"):
        engine.run_segments(0, segments, [ids], [found[:3]])


def _with_vector_in(place: tuple[int, int, int]) -> list[Line]:
    """The pooled row lies there before it is normalised."""
    pool, normalize = POOLED[-2:]
    return [
        *POOLED[:-2],
        replace(pool, operands=(pool.operands[0], place)),
        replace(normalize, operands=(place, normalize.operands[1])),
    ]


ROWS_OF_TEXT = POOLED[-2].operands[0]
assert ROWS_OF_TEXT is not None
FREE = POOLED[-2].operands[1]
assert FREE is not None


def test_texts_whose_last_commands_disturb_each_other_are_read_one_by_one() -> None:
    """What the first text's turn writes must be nothing that the second's reads."""
    spoiling = _with_vector_in(ROWS_OF_TEXT)
    far = _with_vector_in((ROWS_OF_TEXT[0], ROWS_OF_TEXT[1] + (MOST - 1) * ROW, ROW))
    stale = [*POOLED[:-1], replace(VECTOR, operands=(ROWS_OF_TEXT, VECTOR.operands[1]))]
    later = [*POOLED, replace(POOLED[2], rows=T)]
    two = [*POOLED[:-1], replace(VECTOR, rows=2)]
    for program in (spoiling, far, stale, later, two):
        engine = ready(1, program=program, ports=(TOKENS, (64, DIM, 1)))
        assert engine.one_sequence(0)
        segments = [(native.State(KV_NBYTES), 2, 0, 0) for _ in range(2)]
        with pytest.raises(ValueError, match="takes one sequence"):
            engine.run_segments(
                0, segments, [np.zeros(4, np.int32)], [np.zeros((2, DIM), np.float32)]
            )
    assert not encoder(_with_vector_in(FREE)).one_sequence(0)


def test_a_run_of_segments_allocates_nothing() -> None:
    engine = ready(3)
    states = [native.State(KV_NBYTES) for _ in range(4)]
    logits, ids = np.zeros((4, VOCAB), np.float32), np.arange(4, dtype=np.int32)
    before = native.allocations()
    for position in range(8):
        engine.run_segments(0, [(state, 1, position, 1) for state in states], [ids], [logits])
    assert native.allocations() == before


BAD: list[tuple[dict[str, Any], str]] = [
    ({"segments": []}, "no segments"),
    ({"segments": [(0, 2, 3, 1), (0, 2, 3, 1)]}, "the same state"),
    ({"segments": [(0, 2, 3, 1), (1, 0, 0, 0)]}, "0 tokens, expected 1"),
    ({"segments": [(0, 2, 3, 1), (1, -1, 0, 0)]}, "-1 tokens"),
    ({"segments": [(0, 2, 3, 1), (1, 2**62, 0, 0)]}, "tokens, expected"),
    ({"segments": [(0, 2, 3, 1), (1, MOST, 0, 1)]}, f"{MOST + 2} tokens, expected at most {MOST}"),
    ({"segments": [(0, 2, 3, 1), (1, 2, CONTEXT - 1, 1)]}, f"the context holds {CONTEXT}"),
    ({"segments": [(0, 2, 3, 1), (1, 2, -1, 1)]}, "position -1"),
    ({"segments": [(0, 2, 3, 1), (1, 2, 2**63 - 1, 1)]}, "the context holds"),
    ({"segments": [(0, 2, 3, 1), (1, 2, 0, 3)]}, "3 rows of 2 tokens"),
    ({"segments": [(0, 2, 3, 1), (1, 2, 0, -1)]}, "-1 rows of 2 tokens"),
    ({"segments": [(0, 2, 3, 1), (1, 1, 0, 1)]}, "input 0 has 4 rows, expected 3"),
    ({"segments": [(0, 2, 3, 1), (1, 2, 0, 2)]}, "output 0 has 2 rows, expected 3"),
    ({"segments": [(0, 2, 3, 1), (1, 2, 0, 0)]}, "output 0 has 2 rows, expected 1"),
    ({"state": KV_NBYTES - 1}, "the program needs"),
    ({"ids": [1, 2, 3, VOCAB]}, f"token id {VOCAB}"),
    ({"entry": 1}, "no such entry"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_run_of_segments_is_refused_and_changes_nothing(
    change: dict[str, Any], message: str
) -> None:
    engine = ready(2)
    first, second = Talk(engine), Talk(engine)
    first.feed(TEXTS[0][:3])
    states = [first.state, native.State(change.get("state", KV_NBYTES))]
    given = change.get("segments", [(0, 2, 3, 1), (1, 2, 0, 1)])
    segments = [(states[index], *rest) for index, *rest in given]
    logits = np.full((2, VOCAB), 7, np.float32)
    ids = np.array(change.get("ids", [1, 2, 3, 4]), np.int32)
    with pytest.raises(ValueError, match=message):
        engine.run_segments(change.get("entry", 0), segments, [ids], [logits])
    assert (logits == 7).all()
    pieces = [(first, TEXTS[0][3:6], 3), (second, TEXTS[1][:4], 4)]
    one, two = feed(engine, pieces)
    np.testing.assert_array_equal(one, expected(TEXTS[0][:6])[3:])
    np.testing.assert_array_equal(two, expected(TEXTS[1][:4]))


def test_more_rows_than_the_entry_has_are_refused() -> None:
    engine = native.Engine(weights(), 0, 4096, 0, 1, "portable")
    engine.add_entry(8, 2, [(0, 0, -1)], [(64, 4, -2)])
    engine.finish()
    segments = [(native.State(0), 2, 0, 1) for _ in range(3)]
    with pytest.raises(ValueError, match="3 rows, expected at most 2"):
        engine.run_segments(0, segments, [np.zeros(6, np.int32)], [np.zeros((3, 4), np.float32)])


@pytest.mark.parametrize(
    "segment",
    [None, 1, (), (1, 1, 0, 1), (None, 1, 0, 1), ("s", 1, 0, 1), (0, 1.5, 0, 1), (0, 2**70, 0, 1)],
)
def test_what_is_no_segment_is_refused(segment: Any) -> None:
    state = native.State(KV_NBYTES)
    if isinstance(segment, tuple) and segment and segment[0] == 0:
        segment = (state, *segment[1:])
    ids, logits = np.zeros(1, np.int32), np.zeros((1, VOCAB), np.float32)
    with pytest.raises(TypeError, match="a segment is"):
        ready().run_segments(0, [segment], [ids], [logits])


def test_more_segments_than_one_run_takes_are_refused() -> None:
    segments = [(native.State(0), 1, 0, 1)] * (native.MAX_SEGMENTS + 1)
    with pytest.raises(ValueError, match=f"at most {native.MAX_SEGMENTS} segments"):
        ready().run_segments(0, segments, [], [])


def test_an_entry_of_fixed_rows_takes_one_sequence() -> None:
    """Its rows cannot be told apart."""
    program = [replace(line, rows=1) if line.rows == -2 else line for line in PROGRAM]
    for engine in (ready(1, program=program), ready(ports=(TOKENS, (64, VOCAB, 1)))):
        assert engine.one_sequence(0)
        talks = [Talk(engine), Talk(engine)]
        with pytest.raises(ValueError, match="takes one sequence"):
            feed(engine, [(talk, [1], 1) for talk in talks])
        (found,) = feed(engine, [(talks[0], TEXTS[0][:1], 1)])
        np.testing.assert_array_equal(found, expected(TEXTS[0][:1]))


def _segments(states: Sequence[native.State], rng: random.Random) -> list[Any]:
    """Mostly possible, now and then not."""
    found = []
    for state in rng.sample(states, rng.randint(1, len(states))):
        tokens = rng.choice((1, 1, 2, 3))
        found.append((state, tokens, rng.choice((0, 3, CONTEXT - 3)), rng.randint(0, tokens)))
    if rng.random() < 0.2:
        place, field = rng.randrange(len(found)), rng.randrange(1, 4)
        odd = rng.choice((-1, 0, 4, MOST, CONTEXT, 1 << 31, (1 << 63) - 1))
        found[place] = (*found[place][:field], odd, *found[place][field + 1 :])
    return found


def _try(seed: int) -> int:
    """Runs that a program broken at random made."""
    rng = random.Random(seed)
    threads, isa = rng.choice((1, 2, 3)), rng.choice(native.isas())
    program = rng.choice((PROGRAM, POOLED, COUNTED))
    columns, last = (VOCAB, R) if program is PROGRAM else (DIM, program[-1].rows)
    try:
        engine = ready(threads, isa, broken(rng, program), broken_ports(rng, (64, columns, last)))
    except ValueError:
        return 0
    states, ran = [native.State(KV_NBYTES) for _ in range(4)], 0
    for _ in range(4):
        segments = _segments(states, rng)
        tokens, rows = (min(sum(each[i] for each in segments), 99) for i in (1, 3))
        rows = len(segments) if last == 1 else max(rows, 0)
        logits = np.empty((rows, columns), np.float32)
        try:
            engine.run_segments(0, segments, [np.full(max(tokens, 0), 44, np.int32)], [logits])
            ran += 1
        except ValueError:
            pass
    return ran


@pytest.mark.parametrize("part", range(4))
def test_broken_programs_stay_in_their_memory(part: int) -> None:
    def work() -> None:
        assert sum(_try(seed) for seed in range(part * 300, (part + 1) * 300)) > 100

    in_child(work)
