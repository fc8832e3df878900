"""Bad input and the error it must give."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from support.command_line import hearth
from support.desk import Arguments, Desk


@dataclass(frozen=True)
class Case:
    """`make` spoils what is on the desk and gives the arguments; they must fail with these codes."""

    name: str
    make: Callable[[Desk], Arguments]
    code: str
    exit_code: int
    environment: tuple[str, str] | None = None


def require_refusal(
    case: Case, desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code, the exit code, one line; nothing on the desk is changed."""
    monkeypatch.chdir(desk.folder)
    if case.environment:
        monkeypatch.setenv(*case.environment)
    arguments = case.make(desk)
    before = desk.listing()
    exit_code = hearth(*arguments, "--json")
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (error["code"], exit_code) == (case.code, case.exit_code), error
    assert error["exit_code"] == exit_code
    require_message(error["message"], case.code)
    assert desk.listing() == before


def require_message(message: str, code: str) -> None:
    """One line: what was found; what was expected or is to be done; the code."""
    found, *advice = message.removesuffix(f" [{code}]").split("; ")
    assert message.endswith(f" [{code}]")
    assert "\n" not in message
    assert found
    assert advice, message
