"""What the executor refuses, by a Python exception and never a crash; a refusal leaves the engine usable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.engines import (
    ARENA,
    ARENA_NBYTES,
    CONTEXT,
    IO,
    IO_NBYTES,
    KV,
    KV_NBYTES,
    LOGITS_PORT,
    MOST,
    PROGRAM,
    ROW,
    TOKENS,
    VOCAB,
    WEIGHTS,
    Line,
    R,
    T,
    Talk,
    add,
    blank,
    expected,
    ready,
    weights,
)

from hearth.runtime import native
from hearth.schemas.commands import Activation, KVScheme, Layout

BY_OP = {line.op: line for line in PROGRAM}


def _moved(op: str, operand: int, place: Any) -> Line:
    line = BY_OP[op]
    operands = (*line.operands[:operand], place, *line.operands[operand + 1 :])
    return replace(line, operands=operands)


def _ints(op: str, index: int, value: int) -> Line:
    line = BY_OP[op]
    return replace(line, ints=(*line.ints[:index], value, *line.ints[index + 1 :]))


_LAST_ROW = ARENA_NBYTES - (MOST - 1) * ROW - 128
BAD_COMMANDS = {
    "weight_outside": (_moved("embed", 1, (WEIGHTS, 64 * 1000, 0)), "needs .* bytes at 64000"),
    "weight_cut": (_moved("linear", 1, (WEIGHTS, 64 * 97, 0)), "operand w needs"),
    "weight_misaligned": (_moved("embed", 1, (WEIGHTS, 16, 0)), "not aligned to 64"),
    "weight_in_arena": (_moved("embed", 1, (ARENA, 0, 0)), "region 1, where it cannot be"),
    "offset_negative": (_moved("add", 0, (ARENA, -4, ROW)), "operand a needs"),
    "offset_beyond": (_moved("add", 2, (ARENA, 1 << 45, ROW)), "operand y needs"),
    "rows_reach_outside": (_moved("add", 2, (ARENA, _LAST_ROW + 4, ROW)), "operand y needs"),
    "stride_reaches_outside": (_moved("add", 1, (ARENA, 0, 1 << 20)), "operand b needs"),
    "stride_negative": (_moved("add", 1, (ARENA, 0, -ROW)), "stride out of range"),
    "rows_overlap": (_moved("add", 2, (ARENA, 0, ROW - 4)), "rows that overlap"),
    "odd_offset": (_moved("add", 2, (ARENA, 2, ROW)), "not aligned to 4"),
    "record_misaligned": (_moved("quantize", 1, (ARENA, 4, 192)), "not aligned to 64"),
    "unknown_region": (_moved("add", 0, (4, 0, ROW)), "region 4"),
    "output_in_weights": (_moved("add", 2, (WEIGHTS, 0, ROW)), "region 0, where it cannot be"),
    "output_over_tokens": (_moved("last_rows", 1, (IO, 0, ROW)), "overwrite the tokens"),
    "tokens_elsewhere": (_moved("embed", 0, (IO, 64, 0)), "not the entry's tokens"),
    "tokens_in_arena": (_moved("embed", 0, (ARENA, 0, 0)), "not the entry's tokens"),
    "cache_in_arena": (_moved("attention", 3, (ARENA, 0, 0)), "where it cannot be"),
    "cache_outside": (_moved("attention", 5, (KV, KV_NBYTES - 64, 0)), "operand v needs"),
    "operand_missing": (_moved("add", 1, None), "b is missing"),
    "scales_missing": (_moved("kv_write", 4, None), "needs scales"),
    "cos_without_sin": (_moved("attention", 1, (WEIGHTS, 0, 0)), "cos without sin"),
    "operand_too_many": (
        replace(BY_OP["add"], operands=(*BY_OP["add"].operands, None)),
        "wrong number",
    ),
    "attribute_missing": (replace(BY_OP["add"], ints=()), "wrong number"),
    "float_missing": (replace(BY_OP["attention"], floats=()), "wrong number"),
    "columns_zero": (_ints("add", 0, 0), "no columns"),
    "columns_negative": (_ints("add", 0, -1), "out of range"),
    "columns_huge": (_ints("add", 0, 1 << 40), "out of range"),
    "layout_unknown": (_ints("linear", 2, max(Layout) + 1), "unknown layout"),
    "group_zero": (_ints("linear", 3, 0), "group is not"),
    "group_odd": (_ints("linear", 3, 48), "group is not"),
    "activation_unknown": (_ints("linear", 4, max(Activation) + 1), "unknown activation"),
    "scheme_unknown": (_ints("attention", 5, max(KVScheme) + 1), "unknown cache scheme"),
    "heads_not_grouped": (_ints("attention", 1, 3), "multiple of kv_heads"),
    "no_kv_heads": (_ints("attention", 1, 0), "multiple of kv_heads"),
    "rotary_odd": (_ints("attention", 3, 3), "rotary_dim"),
    "rotary_large": (_ints("kv_write", 2, 32), "rotary_dim"),
    "context_beyond_the_cache": (_ints("kv_write", 3, 4096), "operand cache needs"),
    "rows_unknown": (replace(BY_OP["add"], rows=-3), "rows is out of range"),
    "rows_above_the_most": (replace(BY_OP["add"], rows=MOST + 1), "rows is out of range"),
}


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_a_bad_command_is_refused(name: str) -> None:
    bad, message = BAD_COMMANDS[name]
    engine = blank()
    before = [line.op for line in PROGRAM].index(bad.op)
    for line in PROGRAM[:before]:
        add(engine, line)
    with pytest.raises(ValueError, match=message):
        add(engine, bad)
    for line in PROGRAM[before:]:
        add(engine, line)
    engine.finish()
    np.testing.assert_array_equal(Talk(engine).feed([3, 4], 2), expected([3, 4]))


def test_unknown_opcodes_and_entries() -> None:
    engine = blank()
    with pytest.raises(ValueError, match="unknown opcode 99"):
        engine.add_command(0, 99, -1, [], [], [])
    for entry in (-1, 1):
        with pytest.raises(ValueError, match="no such entry"):
            add(engine, PROGRAM[0], entry)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 0, [TOKENS], [LOGITS_PORT]), "max_tokens"),
        ((1 << 40, 1, [TOKENS], [LOGITS_PORT]), "max_tokens"),
        ((4, 5, [TOKENS], [LOGITS_PORT]), "max_logits"),
        ((4, 4, [TOKENS], [(64, 0, R)]), "an output is f32"),
        ((4, 4, [TOKENS], [(64, -1, R)]), "columns are out of range"),
        ((4, 4, [TOKENS], [(64, 1 << 40, R)]), "columns are out of range"),
        ((4, 4, [TOKENS], [(64, VOCAB, -3)]), "rows are out of range"),
        ((4, 4, [TOKENS], [(64, VOCAB, 1 << 40)]), "rows are out of range"),
        ((MOST, MOST, [TOKENS], [(68, VOCAB, R)]), "a port is not inside"),
        ((MOST, MOST, [(IO_NBYTES - 4, 0, T)], []), "a port is not inside"),
        ((MOST, MOST, [(-4, 0, T)], []), "a port is not inside"),
        ((MOST, MOST, [(2, 0, T)], []), "a port is not inside"),
        ((MOST, MOST, [(1 << 62, 0, T)], []), "a port is not inside"),
        ((MOST, MOST, [(0, 0, T), (4 * MOST - 4, 0, T)], []), "two inputs share bytes"),
        ((MOST, MOST, [(0, 0, T), (4, 8, 1)], []), "two inputs share bytes"),
        ((MOST, MOST, [], [LOGITS_PORT] * 33), "too many ports"),
    ],
)
def test_a_bad_entry_is_refused(shape: tuple[Any, ...], message: str) -> None:
    engine = native.Engine(weights(), ARENA_NBYTES, IO_NBYTES, KV_NBYTES, 1, "portable")
    with pytest.raises(ValueError, match=message):
        engine.add_entry(*shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ARENA_NBYTES, IO_NBYTES, KV_NBYTES, 0, "portable"), "threads"),
        ((ARENA_NBYTES, IO_NBYTES, KV_NBYTES, 100_000, "portable"), "threads"),
        ((-1, IO_NBYTES, KV_NBYTES, 1, "portable"), "size is out of range"),
        ((ARENA_NBYTES, IO_NBYTES, 1 << 62, 1, "portable"), "size is out of range"),
        ((ARENA_NBYTES, IO_NBYTES, KV_NBYTES, 1, "sse9"), "unknown ISA 'sse9'"),
    ],
)
def test_a_bad_engine_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native.Engine(weights(), *arguments)


def test_weights_must_be_bytes_on_a_boundary() -> None:
    sizes = (ARENA_NBYTES, IO_NBYTES, KV_NBYTES, 1, "portable")
    with pytest.raises(ValueError, match="64-byte boundary"):
        native.Engine(weights()[4:], *sizes)
    for bad in (weights()[::2], weights().view(np.int8), weights()[None]):
        with pytest.raises(TypeError):
            native.Engine(bad, *sizes)


def test_an_arena_without_memory_is_a_memory_error() -> None:
    sizes = (1 << 46, IO_NBYTES, KV_NBYTES, 1, "portable")
    engines = [native.Engine(weights(), *sizes) for _ in range(3)]  # more than the address space

    def finish() -> None:
        for engine in engines:
            engine.finish()

    with pytest.raises(MemoryError):
        finish()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [0, VOCAB]}, f"token id {VOCAB} is not in"),
        ({"tokens": [-1]}, "token id -1"),
        ({"tokens": [2**31 - 1]}, "token id"),
        ({"tokens": []}, "0 tokens"),
        ({"tokens": [1] * (MOST + 1)}, f"{MOST + 1} tokens"),
        ({"rows": 3}, "output 0 has 3 rows, expected at most 2"),
        ({"position": -1}, "position -1"),
        ({"position": CONTEXT - 1}, f"the context holds {CONTEXT}"),
        ({"position": 2**62}, "the context holds"),
        ({"entry": 1}, "no such entry"),
        ({"columns": VOCAB + 1}, f"columns, expected {VOCAB}"),
        ({"t": 3}, "input 0 has 2 rows, expected 3"),
        ({"ports": (0, 1)}, "0 inputs and 1 outputs, the entry has 1 and 1"),
        ({"ports": (1, 0)}, "1 inputs and 0 outputs"),
        ({"ports": (2, 1)}, "2 inputs"),
        ({"state": KV_NBYTES - 1}, "the program needs"),
    ],
)
def test_a_bad_run_is_refused(change: dict[str, Any], message: str) -> None:
    engine = ready(2)
    given: dict[str, Any] = {
        "tokens": [1, 2],
        "rows": 1,
        "position": 0,
        "entry": 0,
        "columns": VOCAB,
        "state": KV_NBYTES,
        "ports": (1, 1),
    } | change
    logits = np.full((given["rows"], given["columns"]), 7, np.float32)
    tokens = np.array(given["tokens"], np.int32)
    state, place = native.State(given["state"]), (given["entry"], given.get("t", len(tokens)))
    ins, outs = given["ports"]
    with pytest.raises(ValueError, match=message):
        engine.run(state, *place, given["position"], [tokens] * ins, [logits] * outs)
    assert (logits == 7).all()
    np.testing.assert_array_equal(Talk(engine).feed([3, 4], 2), expected([3, 4]))


@pytest.mark.parametrize(
    ("tokens", "logits"),
    [
        (np.zeros(2, np.int64), np.zeros((1, VOCAB), np.float32)),
        (np.zeros((1, 2), np.int32), np.zeros((1, VOCAB), np.float32)),
        (np.zeros(4, np.int32)[::2], np.zeros((1, VOCAB), np.float32)),
        ([1, 2], np.zeros((1, VOCAB), np.float32)),
        (np.zeros(2, np.int32), np.zeros(VOCAB, np.float32)),
        (np.zeros(2, np.int32), np.zeros((1, VOCAB), np.float64)),
        (np.zeros(2, np.int32), np.zeros((VOCAB, 1), np.float32).T[:, ::1][:, ::-1]),
    ],
)
def test_arrays_of_another_kind_are_refused(tokens: Any, logits: Any) -> None:
    with pytest.raises(TypeError):
        ready().run(native.State(KV_NBYTES), 0, 2, 0, [tokens], [logits])


def test_logits_that_cannot_be_written_are_refused() -> None:
    logits = np.zeros((1, VOCAB), np.float32)
    logits.flags.writeable = False
    with pytest.raises(TypeError):
        ready().run(native.State(KV_NBYTES), 0, 1, 0, [np.zeros(1, np.int32)], [logits])


def test_order_of_calls() -> None:
    engine = blank()
    with pytest.raises(RuntimeError, match="finish"):
        Talk(engine).feed([1])
    engine.finish()
    for late in (engine.finish, lambda: add(engine, PROGRAM[0])):
        with pytest.raises(RuntimeError, match="finished"):
            late()
    with pytest.raises(RuntimeError, match="finished"):
        engine.add_entry(MOST, MOST, [TOKENS], [LOGITS_PORT])


def test_a_table_smaller_than_the_vocabulary_bounds_the_ids() -> None:
    engine = blank()
    smaller = replace(BY_OP["embed"], ints=(20, *BY_OP["embed"].ints[1:]))
    for line in PROGRAM:
        add(engine, smaller if line.op == "embed" else line)
    engine.finish()
    Talk(engine).feed([19])
    with pytest.raises(ValueError, match=r"token id 20 is not in \[0, 20\)"):
        Talk(engine).feed([20])


def test_rope_bounds_the_positions_by_its_table() -> None:
    region = weights()
    engine = native.Engine(region, ARENA_NBYTES, IO_NBYTES, 0, 1, "portable")
    engine.add_entry(MOST, 0, [], [])
    place, table = (ARENA, 0, ROW), (WEIGHTS, region.size - 5 * 64, 0)
    opcode = native.contracts()["rope"]
    engine.add_command(0, opcode, -1, [place, table, table, place], [1, 32, 32], [])
    engine.finish()
    engine.run(native.State(0), 0, 5, 0, [], [])
    with pytest.raises(ValueError, match="the context holds 5"):
        engine.run(native.State(0), 0, 1, 5, [], [])


def test_the_ids_of_each_port_are_bounded_by_the_table_they_choose_from() -> None:
    """Two i32 inputs: words of a table of 45 rows, types of one of 3."""
    embed, types = BY_OP["embed"], (256, 0, T)
    line = replace(
        embed,
        operands=((IO, 256, 0), embed.operands[1], (ARENA, MOST * ROW, ROW)),
        ints=(3, *embed.ints[1:]),
    )
    engine = native.Engine(weights(), ARENA_NBYTES, IO_NBYTES, 0, 1, "portable")
    engine.add_entry(MOST, 0, [TOKENS, types], [])
    add(engine, embed)
    add(engine, line)
    engine.finish()

    def run(words: list[int], kinds: list[int]) -> None:
        inputs = [np.array(ids, np.int32) for ids in (words, kinds)]
        engine.run(native.State(0), 0, len(words), 0, inputs, [])

    run([44, 0], [2, 0])
    for words, kinds, message in (
        ([44, 45], [0, 0], r"token id 45 is not in \[0, 45\)"),
        ([44, 44], [0, 3], r"token id 3 is not in \[0, 3\)"),
        ([44, 44], [-1, 0], "token id -1"),
        ([44, 44], [0], "input 1 has 1 rows, expected 2"),
    ):
        with pytest.raises(ValueError, match=message):
            run(words, kinds)


def test_commands_read_no_more_ids_than_were_checked() -> None:
    """A port of one id, an embedding of every row: the ids after the first would be unchecked."""
    engine = native.Engine(weights(), ARENA_NBYTES, IO_NBYTES, 0, 1, "portable")
    engine.add_entry(MOST, 0, [(0, 0, 1)], [])
    with pytest.raises(ValueError, match="not the entry's tokens"):
        add(engine, BY_OP["embed"])
    add(engine, replace(BY_OP["embed"], rows=1))


def test_an_output_may_not_land_on_any_ids() -> None:
    engine = native.Engine(weights(), ARENA_NBYTES, IO_NBYTES, 0, 1, "portable")
    engine.add_entry(MOST, 0, [TOKENS, (1024, 0, T)], [])
    with pytest.raises(ValueError, match="overwrite the tokens"):
        add(engine, _moved("embed", 2, (IO, 640, ROW)))


def test_fixed_rows_are_the_shape_of_a_port() -> None:
    """One row out whatever T; f32 rows in."""
    engine = native.Engine(weights(), ARENA_NBYTES, IO_NBYTES, 0, 1, "portable")
    engine.add_entry(MOST, 0, [(0, 8, T)], [(512, 8, 1)])
    pool = native.contracts()["pool"]
    engine.add_command(0, pool, 1, [(IO, 0, 32), (IO, 512, 32)], [8, 3], [])  # the largest
    engine.finish()
    rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    found = np.zeros((1, 8), np.float32)
    engine.run(native.State(0), 0, 5, 0, [rows], [found])
    np.testing.assert_array_equal(found[0], rows.max(0))
    for bad in (np.zeros((2, 8), np.float32), np.zeros((0, 8), np.float32)):
        with pytest.raises(ValueError, match="rows, expected 1"):
            engine.run(native.State(0), 0, 5, 0, [rows], [bad])
    with pytest.raises(ValueError, match="input 0 has 9 columns, expected 8"):
        engine.run(native.State(0), 0, 5, 0, [np.zeros((5, 9), np.float32)], [found])
    with pytest.raises(ValueError, match="input 0 has 0 columns"):
        engine.run(native.State(0), 0, 5, 0, [np.zeros(5, np.int32)], [found])
