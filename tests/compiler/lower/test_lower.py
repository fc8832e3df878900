"""Lowering: every form of a graph becomes a program that the checker accepts; views, logits, tied weights, KV."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.graphs import MEASURELESS, Tiny
from support.programs import FLOAT, INT4, SWITCHABLE, lowered

from hearth.compiler.quantize import Scheme
from hearth.runtime.verify.plan import check
from hearth.schemas.commands import BY_NAME, KVScheme
from hearth.schemas.program import Command, Operand, Program, Region, Rows

SHAPES = {
    "plain": Tiny(),
    "bias": Tiny(bias=True),
    "untied_partial_rotary": Tiny(tied=False, rotary=4),
    "odd": Tiny(hidden=20, heads=5, kv_heads=1, head_dim=6, ffn=19, vocab=31, context=17),
    "one_layer_mha": Tiny(layers=1, heads=2, kv_heads=2),
}


def operand(command: Command, name: str) -> Operand:
    names = [spec.name for spec in BY_NAME[command.op].operands]
    found = command.operands[names.index(name)]
    assert found is not None
    return found


def ops(program: Program, entry: str, op: str) -> list[Command]:
    return [command for command in program.entries[entry].commands if command.op == op]


@pytest.mark.parametrize("skip", [(), *((name,) for name in SWITCHABLE), SWITCHABLE], ids=str)
@pytest.mark.parametrize("scheme", [FLOAT, INT4], ids=["float", "int4"])
def test_every_pass_may_be_off(skip: tuple[str, ...], scheme: Scheme) -> None:
    made = lowered(Tiny(bias=True), skip, scheme)
    check(made.program)
    assert set(made.program.entries) == {"prefill", "decode"}


@pytest.mark.parametrize("kv", MEASURELESS, ids=lambda kv: kv.name)
@pytest.mark.parametrize("tiny", SHAPES.values(), ids=SHAPES)
def test_every_shape_passes_the_checker(tiny: Tiny, kv: KVScheme) -> None:
    from dataclasses import replace

    check(lowered(replace(tiny, kv=kv)).program)


@pytest.mark.parametrize("chunk", [1, 2, 128])
def test_any_chunk_passes_the_checker(chunk: int) -> None:
    made = lowered(chunk=chunk)
    check(made.program)
    assert made.program.entries["prefill"].max_rows == {Rows.T: chunk, Rows.R: chunk}
    assert made.program.entries["decode"].max_rows == {Rows.T: 1, Rows.R: 1}


def test_slices_are_views_of_one_buffer() -> None:
    """q, k and v share the number and stride of the merged linear's result."""
    program = lowered().program
    merged = operand(ops(program, "prefill", "linear")[0], "y")
    q = operand(ops(program, "prefill", "attention")[0], "q")
    k, v = (operand(write, "x") for write in ops(program, "prefill", "kv_write")[:2])
    assert {q.value, k.value, v.value} == {merged.value}
    assert {q.stride, k.stride, v.stride} == {merged.stride}
    assert sorted(each.offset - merged.offset for each in (q, k, v)) == [0, 128, 192]


def test_a_bias_left_alone_is_a_vector_of_every_row() -> None:
    program = lowered(Tiny(bias=True), ("fuse-bias",), scheme=FLOAT).program
    vectors = [operand(add, "b") for add in ops(program, "decode", "add")]
    assert any(vector.region is Region.WEIGHTS and vector.stride == 0 for vector in vectors)


def test_a_tied_table_is_stored_once() -> None:
    made = lowered(Tiny(tied=True), scheme=FLOAT)
    (embed,) = ops(made.program, "decode", "embed")
    head = ops(made.program, "decode", "linear")[-1]
    assert operand(embed, "table") == operand(head, "w")
    assert len({tensor.name for tensor in made.weights}) == len(made.weights)


def test_both_entries_read_the_same_weights() -> None:
    program = lowered().program
    places = [
        {
            (each.offset, each.nbytes)
            for command in program.entries[name].commands
            for each in command.operands
            if each is not None and each.region is Region.WEIGHTS
        }
        for name in ("prefill", "decode")
    ]
    assert places[0] == places[1]


def test_lowering_twice_gives_the_same_program() -> None:
    first, second = lowered(), lowered()
    assert first.program == second.program
    assert [(t.name, t.offset, t.nbytes) for t in first.weights] == [
        (t.name, t.offset, t.nbytes) for t in second.weights
    ]


def test_every_packed_tensor_has_the_bytes_it_says() -> None:
    made = lowered()
    for tensor in made.weights:
        assert sum(chunk.nbytes for chunk in tensor.chunks()) == tensor.nbytes
        assert tensor.offset % 64 == 0
    ends = [tensor.offset + tensor.nbytes for tensor in made.weights]
    starts = [tensor.offset for tensor in made.weights[1:]]
    assert all(0 <= start - end < 64 for start, end in zip(starts, ends[:-1], strict=True))


def test_the_kv_layout_holds_every_layer_in_order() -> None:
    layout = lowered(Tiny(layers=3, kv=KVScheme.INT8)).kv_layout
    assert len(layout.layers) == 3
    spans = layout.spans()
    assert len(spans) == 12
    assert all(span.offset % 64 == 0 for span in spans)
    assert all(a.end <= b.offset for a, b in pairwise(spans))
    assert spans[-1].end <= layout.nbytes
