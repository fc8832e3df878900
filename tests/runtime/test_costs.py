"""Bytes and operations of commands against counts made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hearth.runtime import load
from hearth.runtime.costs import Cost, Place, command_costs, prefill_cost, prefill_places, run_cost
from hearth.schemas.commands import KVScheme, Layout
from hearth.schemas.program import Command, Entry, Operand, Region, Rows

if TYPE_CHECKING:
    from conftest import Archives

T, R, MOST = Rows.T, Rows.R, 8
N, K = 32, 64  # of the linears
HEADS, KV_HEADS, DIM, TURNED, CONTEXT = 4, 2, 16, 8, 100


def weight(nbytes: int) -> Operand:
    return Operand(Region.WEIGHTS, 0, nbytes)


def cache(nbytes: int = 1) -> Operand:
    return Operand(Region.KV, 0, nbytes)


def rows_of(nbytes: int, stride: int | None = None, value: int = 1) -> Operand:
    """MOST rows of so many bytes."""
    stride = stride or nbytes
    return Operand(Region.ARENA, 0, (MOST - 1) * stride + nbytes, stride, value)


def cost(command: Command, place: Place, *before: Command) -> Cost:
    """The last command's."""
    entry = Entry((*before, command), (), (), (), {T: MOST, R: MOST}, 0)
    return command_costs(entry, place)[-1]


def attention(scheme: KVScheme, window: int = 0, causal: int = 1) -> Command:
    scales = cache() if scheme is KVScheme.INT8 else None
    operands = (
        rows_of(HEADS * DIM * 4), weight(400), weight(400),
        cache(), scales, cache(), scales, rows_of(HEADS * DIM * 4, value=2),
    )  # fmt: skip
    ints = (HEADS, KV_HEADS, DIM, TURNED, CONTEXT, int(scheme), window, causal)
    return Command("attention", T, operands, ints, (0.25,))


def linear(layout: Layout, rows: Rows = T) -> Command:
    operands = (rows_of(192, value=7), weight(1000), weight(N * 4), None, rows_of(N * 4, 256, 8))
    return Command("linear", rows, operands, (N, K, int(layout), 32, 0))


QUANTIZE = Command("quantize", T, (rows_of(K * 4, value=6), rows_of(192, value=7)), (K,))


def test_an_integer_linear_reads_all_its_weights_once() -> None:
    found = cost(linear(Layout.Q4B16), Place(3, 1, 10), QUANTIZE)
    assert found.weight_nbytes == 1000 + N * 4
    assert found.kv_nbytes == 0
    assert found.activation_nbytes == 3 * 192 + 3 * N * 4
    assert (found.int8_operations, found.f32_operations) == (2 * 3 * N * K, 0)


def test_without_q8_rows_it_computes_in_floats() -> None:
    found = cost(linear(Layout.Q4B16), Place(3))
    assert (found.int8_operations, found.f32_operations) == (0, 2 * 3 * N * K)


def test_rows_of_logits() -> None:
    found = cost(linear(Layout.Q8B16, R), Place(5, 2), QUANTIZE)
    assert found.int8_operations == 2 * 2 * N * K
    assert cost(linear(Layout.Q8B16, R), Place(5, 0), QUANTIZE) == Cost()


def test_an_embedding_reads_the_rows_it_is_asked_for() -> None:
    tokens = Operand(Region.IO, 0, MOST * 4, 4)
    embed = Command("embed", T, (tokens, weight(5000), rows_of(K * 4)), (50, K, 2, 0))
    assert cost(embed, Place(3)) == Cost(300, 0, 3 * 4 + 3 * K * 4)


@pytest.mark.parametrize(
    ("scheme", "nbytes"), [(KVScheme.F32, 4), (KVScheme.F16, 2), (KVScheme.INT8, 1)]
)
def test_attention(scheme: KVScheme, nbytes: int) -> None:
    found = cost(attention(scheme), Place(3, 1, 10))
    scales = 4 if scheme is KVScheme.INT8 else 0
    assert found.kv_nbytes == 2 * 13 * KV_HEADS * (DIM * nbytes + scales)
    assert found.weight_nbytes == 2 * 3 * (TURNED // 2) * 4
    each, turned = 2 * HEADS * DIM * (11 + 12 + 13), 3 * 3 * HEADS * TURNED
    if scheme is KVScheme.INT8:
        assert (found.int8_operations, found.f32_operations) == (each, each + turned)
    else:
        assert (found.int8_operations, found.f32_operations) == (0, 2 * each + turned)


def test_a_window_bounds_what_is_read() -> None:
    found = cost(attention(KVScheme.F32, window=4), Place(3, 1, 10))
    assert found.kv_nbytes == 2 * 6 * KV_HEADS * DIM * 4  # positions 7 to 12
    assert found.f32_operations == 2 * 2 * HEADS * DIM * 12 + 3 * 3 * HEADS * TURNED
    early = cost(attention(KVScheme.F32, window=4), Place(3))
    assert early.kv_nbytes == 2 * 3 * KV_HEADS * DIM * 4
    assert early.f32_operations == 2 * 2 * HEADS * DIM * (1 + 2 + 3) + 3 * 3 * HEADS * TURNED


def test_without_a_mask_all_rows_see_all() -> None:
    found = cost(attention(KVScheme.F32, causal=0), Place(3))
    assert found.f32_operations == 2 * 2 * HEADS * DIM * 9 + 3 * 3 * HEADS * TURNED


def test_kv_write() -> None:
    ints = (KV_HEADS, DIM, 0, CONTEXT, int(KVScheme.INT8), 1)
    operands = (rows_of(KV_HEADS * DIM * 4, 512), None, None, cache(), cache())
    found = cost(Command("kv_write", T, operands, ints), Place(3, 1, 10))
    assert found == Cost(0, 3 * KV_HEADS * (DIM + 4), 3 * KV_HEADS * DIM * 4)


@pytest.mark.parametrize(
    ("op", "operations"), [("rms_norm", 4), ("add", 1), ("swiglu", 2), ("l2_normalize", 3)]
)
def test_elementwise(op: str, operations: int) -> None:
    row = rows_of(K * 4)
    operands = {"rms_norm": (row, None, row), "l2_normalize": (row, row)}.get(op, (row, row, row))
    floats = (1e-5,) if op in ("rms_norm", "l2_normalize") else ()
    found = cost(Command(op, T, operands, (K,), floats), Place(5))
    assert found.f32_operations == operations * 5 * K
    assert found.activation_nbytes == sum(5 * K * 4 for each in operands if each is not None)


def test_head_norm_counts_every_head() -> None:
    row, gain = rows_of(3 * DIM * 4), Operand(Region.WEIGHTS, 0, DIM * 4)
    found = cost(Command("head_norm", T, (row, gain, row), (3, DIM), (1e-6,)), Place(5))
    assert found == Cost(DIM * 4, 0, 2 * 5 * 3 * DIM * 4, 0, 4 * 5 * 3 * DIM)


def test_hadamard_counts_signs_and_butterflies() -> None:
    row, signs = rows_of(96 * 4), Operand(Region.WEIGHTS, 0, 576)
    found = cost(Command("hadamard", T, (row, signs, row), (96, 12, 1, 8)), Place(5))
    assert found == Cost(576, 0, 2 * 5 * 96 * 4, 0, 5 * 96 * (2 * 12 + 4))


def test_pooling_reads_every_row() -> None:
    pool = Command("pool", 1, (rows_of(K * 4), Operand(Region.IO, 0, K * 4, K * 4)), (K, 0))
    assert cost(pool, Place(5)) == Cost(0, 0, 5 * K * 4 + K * 4, 0, 5 * K)


def test_places_of_a_prompt() -> None:
    assert prefill_places(10, 4, 3) == (Place(4, 0, 3), Place(4, 0, 7), Place(2, 1, 11))
    assert prefill_places(4, 4) == (Place(4, 1, 0),)


def test_of_a_model(archives: Archives) -> None:
    """A token's bytes grow by those of its position alone; a prompt in chunks computes what it does at once."""
    program = load(archives("tiny", weights="int4")).archive.program
    decode, prefill = program.entries["decode"], program.entries["prefill"]
    one, two = (run_cost(decode, Place(1, 1, position)) for position in (4, 5))
    assert two.weight_nbytes == one.weight_nbytes
    assert 0 < one.memory_nbytes < two.memory_nbytes
    whole = prefill_cost(prefill, 12, 12)
    parts = prefill_cost(prefill, 12, 5)
    assert parts.int8_operations == whole.int8_operations
    assert parts.f32_operations == whole.f32_operations
    assert parts.weight_nbytes > whole.weight_nbytes
    assert all(each != Cost() for each in command_costs(prefill, Place(3, 1)))
