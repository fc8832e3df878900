"""Property: moving any live buffer of a valid plan onto another is refused; moving it to free bytes is not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.graphs import Tiny
from support.programs import lowered

from hearth.runtime.verify.plan import PlanError, check
from hearth.schemas.commands import BY_NAME, KVScheme, Role
from hearth.schemas.program import Command, Entry, Operand, Program, Region, Rows

PROGRAM = lowered(Tiny(bias=True, tied=False, kv=KVScheme.INT8)).program
ENTRIES = sorted(PROGRAM.entries)
ROOM = 4096  # free bytes added to the arena, so that buffers can also move to harmless places


def roomy(name: str) -> Entry:
    entry = PROGRAM.entries[name]
    return replace(entry, arena_nbytes=entry.arena_nbytes + ROOM)


def in_arena(entry: Entry) -> list[tuple[int, int, Operand]]:
    """Every arena operand with its command and slot."""
    return [
        (at, slot, operand)
        for at, command in enumerate(entry.commands)
        for slot, operand in enumerate(command.operands)
        if operand is not None and operand.region is Region.ARENA
    ]


def spans(entry: Entry) -> dict[int, tuple[int, int, int, int]]:
    """First use, last use, offset and bytes of every arena value, by the operands of the whole buffer."""
    found: dict[int, tuple[int, int, int, int]] = {}
    for at, _, operand in in_arena(entry):
        first, _, offset, nbytes = found.get(
            operand.value, (at, at, operand.offset, operand.nbytes)
        )
        found[operand.value] = (first, at, offset, nbytes)
    return found


def with_entry(name: str, entry: Entry) -> Program:
    return replace(PROGRAM, entries={**PROGRAM.entries, name: entry})


def shifted(entry: Entry, value: int, by: int) -> Entry:
    """The whole buffer of a value, views included, moved."""

    def move(operand: Operand | None) -> Operand | None:
        if operand is None or operand.region is not Region.ARENA or operand.value != value:
            return operand
        return replace(operand, offset=operand.offset + by)

    commands = tuple(
        replace(command, operands=tuple(move(operand) for operand in command.operands))
        for command in entry.commands
    )
    return replace(entry, commands=commands)


def collides(entry: Entry, value: int) -> bool:
    """Whether this value is written over bytes of another that are still read, or the other way round.

    Bytes that no later view covers are free: of a merged projection, K and V once they are in the cache.
    """
    operands, live = in_arena(entry), spans(entry)
    return any(
        live[lost.value][0] <= at <= read
        and written.offset < lost.offset + lost.nbytes
        and lost.offset < written.offset + written.nbytes
        for at, _, written in operands
        if at == live[written.value][0]
        for read, _, lost in operands
        if written.value != lost.value and value in (written.value, lost.value)
    )


@given(st.sampled_from(ENTRIES), st.data())
def test_a_buffer_moved_onto_a_live_one_is_refused(name: str, data: st.DataObject) -> None:
    entry = roomy(name)
    live = spans(entry)
    value = data.draw(st.sampled_from(sorted(live)))
    _, _, offset, nbytes = live[value]
    to = 64 * data.draw(st.integers(0, (entry.arena_nbytes - nbytes) // 64))
    assume(to != offset)
    moved = shifted(entry, value, to - offset)
    program = with_entry(name, moved)
    if collides(moved, value):
        with pytest.raises(PlanError) as refused:
            check(program)
        assert refused.value.code in ("clobbered", "aliased")
    else:
        check(program)


@given(st.sampled_from(ENTRIES), st.data())
def test_one_operand_alone_cannot_move(name: str, data: st.DataObject) -> None:
    """A read away from its definition, or a definition away from its reads, is refused."""
    entry = roomy(name)
    at, slot, operand = data.draw(st.sampled_from(in_arena(entry)))
    offset = 4 * data.draw(st.integers(-16, entry.arena_nbytes // 4))
    uses = [each for _, _, each in in_arena(entry) if each.value == operand.value]
    assume(offset != operand.offset and len(uses) > 1)
    command = entry.commands[at]
    view = operand.offset != min(each.offset for each in uses) or operand.nbytes != uses[0].nbytes
    assume(not view)  # a view may slide inside its buffer
    moved = replace(operand, offset=offset)
    operands = (*command.operands[:slot], moved, *command.operands[slot + 1 :])
    commands = list(entry.commands)
    commands[at] = replace(command, operands=operands)
    with pytest.raises(PlanError):
        check(with_entry(name, replace(entry, commands=tuple(commands))))


@given(st.sampled_from(ENTRIES), st.data())
def test_commands_swapped_are_refused_or_independent(name: str, data: st.DataObject) -> None:
    """Two neighbours may change places only where neither needs the other."""
    entry = PROGRAM.entries[name]
    at = data.draw(st.integers(0, len(entry.commands) - 2))
    first, second = entry.commands[at : at + 2]
    swapped = (*entry.commands[:at], second, first, *entry.commands[at + 2 :])
    program = with_entry(name, replace(entry, commands=swapped))
    if values(first, results=True) & values(second, results=False):
        with pytest.raises(PlanError):
            check(program)


NUMBERS = st.one_of(
    st.integers(-2, 20), st.sampled_from([64, 128, 2**31, 2**40, -(2**40)]), st.integers()
)


@given(st.sampled_from(ENTRIES), st.data())
def test_any_other_change_is_accepted_or_refused_but_never_crashes(
    name: str, data: st.DataObject
) -> None:
    """Names, rows, operands and integers replaced by anything of their type."""
    entry = PROGRAM.entries[name]
    commands = list(entry.commands)
    at = data.draw(st.integers(0, len(commands) - 1))
    command = commands[at]
    match data.draw(st.sampled_from(["op", "rows", "operand", "field", "ints", "floats"])):
        case "op":
            command = replace(command, op=data.draw(st.sampled_from(sorted(BY_NAME))))
        case "rows":
            command = replace(command, rows=data.draw(st.one_of(st.sampled_from(Rows), NUMBERS)))
        case "operand":
            pool = [None, *(operand for _, _, operand in in_arena(entry))]
            command = put(command, data, data.draw(st.sampled_from(pool)))
        case "field":
            field = data.draw(st.sampled_from(["offset", "nbytes", "stride", "value"]))
            operand = data.draw(st.sampled_from([each for each in command.operands if each]))
            command = put(command, data, replace(operand, **{field: data.draw(NUMBERS)}))
        case "ints":
            drawn = data.draw(st.lists(NUMBERS, max_size=8))
            command = replace(command, ints=tuple(drawn))
        case "floats":
            drawn = data.draw(st.lists(st.floats(), max_size=2))
            command = replace(command, floats=tuple(drawn))
    commands[at] = command
    with suppress(PlanError):
        check(with_entry(name, replace(entry, commands=tuple(commands))))


def put(command: Command, data: st.DataObject, operand: Operand | None) -> Command:
    slot = data.draw(st.integers(0, len(command.operands) - 1))
    operands = (*command.operands[:slot], operand, *command.operands[slot + 1 :])
    return replace(command, operands=operands)


def values(command: Command, results: bool) -> set[int]:
    """What a command defines, or reads."""
    pairs = zip(BY_NAME[command.op].operands, command.operands, strict=True)
    return {
        operand.value
        for spec, operand in pairs
        if operand is not None and (spec.role in (Role.OUT, Role.STATE_WRITE)) == results
    } - {-1}
