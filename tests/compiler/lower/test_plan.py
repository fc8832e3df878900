"""The memory plan: no two live buffers share bytes, everything is aligned, and small cases are optimal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.graphs import Tiny
from support.programs import lowered

from hearth.compiler.lower.plan import live_ranges, plan
from hearth.schemas.program import Command, Operand, Region


def uses(*values: int) -> Command:
    """A command over these arena values, in whatever role."""
    return Command("add", 1, tuple(Operand(Region.ARENA, 0, 4, 64, value) for value in values))


def test_a_chain_needs_two_buffers() -> None:
    commands = [uses(0, 1), uses(1, 2), uses(2, 3), uses(3, 4)]
    made = plan(commands, dict.fromkeys(range(5), 100))
    assert made.nbytes == made.lower_bound == 256


def test_a_long_lived_buffer_keeps_its_place() -> None:
    commands = [uses(0, 1), uses(1, 2), uses(2, 3), uses(0, 3, 4)]
    made = plan(commands, {0: 64, 1: 64, 2: 640, 3: 64, 4: 64})
    assert made.nbytes == made.lower_bound


def test_nothing_needs_nothing() -> None:
    assert plan([], {}).nbytes == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(1, 5000)),
        min_size=1,
        max_size=40,
    )
)
def test_no_two_live_buffers_share_bytes(drawn: list[tuple[int, int, int]]) -> None:
    used: dict[int, list[int]] = {}
    for value, (first, length, _) in enumerate(drawn):
        for index in (first, first + length):
            used.setdefault(index, []).append(value)
    commands = [uses(*used.get(index, [])) for index in range(44)]
    sizes = {value: nbytes for value, (_, _, nbytes) in enumerate(drawn)}
    made = plan(commands, sizes)
    ranges = live_ranges(commands, sizes)
    for a in ranges:
        assert made.offsets[a.value] % 64 == 0
        assert made.offsets[a.value] + a.nbytes <= made.nbytes
        for b in ranges:
            if a.value < b.value and a.meets(b):
                low, high = sorted((a, b), key=lambda each: made.offsets[each.value])
                assert made.offsets[low.value] + low.nbytes <= made.offsets[high.value]
    assert made.lower_bound <= made.nbytes


def test_real_shapes_reach_the_lower_bound() -> None:
    """The proportions of a 1.5 B model, scaled down."""
    tiny = Tiny(hidden=96, heads=12, kv_heads=2, head_dim=8, ffn=560, vocab=512, context=64)
    for made in lowered(tiny, chunk=128).plans.values():
        assert made.nbytes == made.lower_bound


def test_order_of_placing_does_not_strand_a_buffer() -> None:
    """Largest first alone leaves a gap here; another order fits exactly."""
    for skip in ((), ("fuse-residual",), ("merge-linears",), ("fold-norm-gain",)):
        for made in lowered(Tiny(bias=True), skip).plans.values():
            assert made.nbytes == made.lower_bound
