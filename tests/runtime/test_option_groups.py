"""Groups of options: a dataclass among a command's parameters is read as an option a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from hearth.runtime.commands.common_options import SamplingOptions
from hearth.runtime.commands.groups import spread


@dataclass(frozen=True)
class Where:
    """Where to."""

    place: Annotated[str, typer.Option(help="the place")] = "home"
    ways: Annotated[list[str] | None, typer.Option("--way")] = None


@dataclass(frozen=True)
class Whither(Where):
    """And how."""

    slow: Annotated[bool, typer.Option("--slow")] = False


def called(*arguments: str) -> list[object]:
    """What a command with a group between its parameters is called with."""
    found: list[object] = []

    @spread
    def go(
        name: Annotated[str, typer.Argument()],
        *,
        where: Whither,
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ) -> None:
        """Go."""
        found.extend((name, where, loud))

    app = typer.Typer()
    app.command()(go)
    result = CliRunner().invoke(app, arguments)
    if result.exit_code:
        raise ValueError(result.output)
    return found


def test_fields_become_options_and_one_value_again() -> None:
    arguments = ("me", "--place", "sea", "--way", "a", "--way", "b", "--slow", "--loud")
    assert called(*arguments) == ["me", Whither("sea", ["a", "b"], True), True]


def test_what_is_left_out_has_the_default_of_its_field() -> None:
    assert called("me") == ["me", Whither(), False]


def test_an_option_that_no_field_is_for_is_refused() -> None:
    with pytest.raises(ValueError, match="--speed"):
        called("me", "--speed", "3")


def test_sampling_options_are_wishes_of_generate() -> None:
    asked = SamplingOptions(top_k=3, stop=["END"]).asked()
    assert (asked["top_k"], asked["stop"], asked["temperature"]) == (3, ["END"], None)
    assert SamplingOptions().asked()["stop"] == ()
