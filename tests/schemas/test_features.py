"""What older runtimes lack is a required feature of the programs that need it, and of no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import archives

from hearth.schemas.commands import Activation
from hearth.schemas.features import OF_ACTIVATIONS, OF_COMMANDS, required_features
from hearth.schemas.program import Command, Program, Rows
from hearth.schemas.sections import FEATURES


def _with(command: Command) -> Program:
    program = archives.program()
    name, entry = next(iter(program.entries.items()))
    more = replace(entry, commands=(*entry.commands, command))
    return replace(program, entries={**program.entries, name: more})


def _linear(activation: Activation) -> Command:
    return Command("linear", Rows.T, (None,) * 5, (16, 16, 2, 0, int(activation)))


NEEDED = {
    "scale": (Command("scale", 1, (None, None), (16,), (2.0,)), "scale"),
    "logits": (Command("soft_cap", 1, (None, None), (16,), (30.0,)), "soft_cap"),
    "scores": (
        Command("attention_capped", 1, (None,) * 8, (2, 1, 8, 8, 16, 2, 0, 1), (0.5, 50.0)),
        "soft_cap",
    ),
    "a gate": (Command("geglu_tanh", 1, (None,) * 3, (16,)), "geglu"),
    "an epilogue": (_linear(Activation.GEGLU_TANH), "geglu"),
}


@pytest.mark.parametrize("case", NEEDED)
def test_a_new_command_or_value_is_a_feature(case: str) -> None:
    command, name = NEEDED[case]
    assert required_features(_with(command)) == {name: FEATURES[name]}


def test_what_version_2_began_with_needs_none() -> None:
    assert required_features(archives.program()) == {}
    assert required_features(_with(_linear(Activation.SWIGLU))) == {}


def test_every_feature_is_required_by_something_and_has_its_own_bit() -> None:
    assert {*OF_COMMANDS.values(), *OF_ACTIVATIONS.values()} == set(FEATURES)
    assert len(set(FEATURES.values())) == len(FEATURES)
