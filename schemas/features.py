"""The required features of a program: what runtimes that were released before it do not know (FORMAT.md, Versions)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hearth.schemas.commands import BY_NAME, Activation
from hearth.schemas.program import Command, Program
from hearth.schemas.sections import FEATURES

OF_COMMANDS: Mapping[str, str] = {
    "geglu_tanh": "geglu",
    "scale": "scale",
    "soft_cap": "soft_cap",
    "attention_capped": "soft_cap",
}
OF_ACTIVATIONS: Mapping[int, str] = {Activation.GEGLU_TANH: "geglu"}


def required_features(program: Program) -> Mapping[str, int]:
    """The features by name, with their bits of the header; none of what every runtime of version 2 runs."""
    commands = (command for entry in program.entries.values() for command in entry.commands)
    names = {name for command in commands for name in _features(command)}
    return {name: bit for name, bit in FEATURES.items() if name in names}


def _features(command: Command) -> Iterator[str]:
    ints = dict(zip(BY_NAME[command.op].ints, command.ints, strict=True))
    if command.op in OF_COMMANDS:
        yield OF_COMMANDS[command.op]
    if ints.get("activation") in OF_ACTIVATIONS:
        yield OF_ACTIVATIONS[ints["activation"]]
