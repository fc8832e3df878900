"""Commands are aligned as sequences, and what differs has the contract's names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearth.runtime.diff.findings import Change
from hearth.runtime.diff.program import Named, program_changes
from hearth.schemas.commands import Activation, Layout
from hearth.schemas.program import Command, Entry, Operand, Port, Program, Region, Rows

WEIGHT = Operand(Region.WEIGHTS, 0, 640)
TABLE = Operand(Region.WEIGHTS, 1280, 640)
X = Operand(Region.ARENA, 0, 256, 64, 1)
Y = Operand(Region.ARENA, 256, 256, 64, 2)
TOKENS = Port("tokens", Rows.T, 0, Operand(Region.IO, 0, 16, 4, 0))
LOGITS = Port("logits", Rows.R, 32, Operand(Region.IO, 64, 512, 128, 4))
EMBED = Command("embed", Rows.T, (TOKENS.operand, TABLE, X), (32, 16, Layout.Q8B16, 0))
LINEAR = Command(
    "linear", Rows.T, (X, WEIGHT, None, None, Y), (16, 16, Layout.Q8B16, 0, Activation.NONE)
)
NORM = Command("rms_norm", Rows.T, (Y, None, X), (16,), (1e-5,))
HEAD = Command("linear", Rows.R, (X, TABLE, None, None, LOGITS.operand), (32, 16, 2, 0, 0))
NAMES = {0: "up", 1280: "table"}


def named(*commands: Command, **sizes: int) -> Named:
    entry = Entry(commands, (TOKENS,), (LOGITS,), (0,), {Rows.T: 4}, sizes.pop("arena", 512))
    return Named(Program({"prefill": entry}, 1920, 0, 1024), NAMES)


def changes(a: Named, b: Named) -> list[Change]:
    return list(program_changes(a, b))


WHOLE = named(EMBED, LINEAR, NORM, HEAD)


def test_equal_programs_have_no_changes() -> None:
    assert changes(WHOLE, named(EMBED, LINEAR, NORM, HEAD)) == []


def test_a_command_that_went_or_came() -> None:
    without = named(EMBED, LINEAR, HEAD)
    assert changes(WHOLE, without) == [Change("prefill[2]", "rms_norm", None)]
    assert changes(without, WHOLE) == [Change("prefill[2]", None, "rms_norm")]


def with_ints(command: Command, place: int, value: int) -> Command:
    ints = list(command.ints)
    ints[place] = value
    return replace(command, ints=tuple(ints))


CHANGED = {
    "activation": (with_ints(LINEAR, 4, Activation.GELU), "linear up.activation", "none", "gelu"),
    "layout": (with_ints(LINEAR, 2, Layout.F16B16), "linear up.layout", "q8b16", "f16b16"),
    "unknown_layout": (with_ints(LINEAR, 2, 99), "linear up.layout", "q8b16", 99),
    "rows": (replace(LINEAR, rows=Rows.R), "linear up.rows", "T", "R"),
    "weight": (
        replace(LINEAR, operands=(X, replace(WEIGHT, nbytes=600), None, None, Y)),
        "linear up.w", "up (640 bytes)", "up (600 bytes)",
    ),
    "operand": (
        replace(LINEAR, operands=(X, WEIGHT, None, None, replace(Y, offset=320))),
        "linear up.y", "arena+256 (256 bytes, stride 64)", "arena+320 (256 bytes, stride 64)",
    ),
    "operand_that_came": (
        replace(LINEAR, operands=(X, WEIGHT, None, X, Y)),
        "linear up.residual", None, "arena+0 (256 bytes, stride 64)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_command_does_otherwise(name: str) -> None:
    command, path, before, after = CHANGED[name]
    found = changes(WHOLE, named(EMBED, command, NORM, HEAD))
    assert found == [Change(f"prefill[1] {path}", before, after)]


def test_eps_is_a_float_with_a_name() -> None:
    other = named(EMBED, LINEAR, replace(NORM, floats=(1e-6,)), HEAD)
    assert changes(WHOLE, other) == [Change("prefill[2] rms_norm.eps", 1e-5, 1e-6)]


def test_the_plan_and_the_ports() -> None:
    assert changes(WHOLE, named(*WHOLE.program.entries["prefill"].commands, arena=640)) == [
        Change("prefill.arena_nbytes", 512, 640)
    ]
    entry = replace(WHOLE.program.entries["prefill"], outputs=(replace(LOGITS, columns=16),))
    other = Named(replace(WHOLE.program, entries={"prefill": entry}), NAMES)
    assert changes(WHOLE, other) == [Change("prefill.outputs[0].columns", 32, 16)]


def test_entries_of_one_side() -> None:
    bare = Named(replace(WHOLE.program, entries={}), NAMES)
    assert changes(WHOLE, bare) == [Change("entries.prefill", "4 commands", None)]


def test_other_numbers_of_values_are_not_passed_over() -> None:
    renumbered = replace(LINEAR, operands=(X, WEIGHT, None, None, replace(Y, value=9)))
    (found,) = changes(WHOLE, named(EMBED, renumbered, NORM, HEAD))
    assert found.path == "prefill: numbers of values"


def test_a_command_no_contract_knows_is_shown() -> None:
    strange = Command("dance", Rows.T, (X,), (1, 2))
    found = changes(named(EMBED, strange), named(EMBED, replace(strange, ints=(1, 3))))
    assert found == [Change("prefill[1] dance.int 1", 2, 3)]


def test_very_long_programs_are_compared_place_by_place() -> None:
    commands = (NORM,) * 6000
    (found,) = changes(named(*commands), named(*commands[:-1]))
    assert found == Change("prefill[5999]", "rms_norm", None)
