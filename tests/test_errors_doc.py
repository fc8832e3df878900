"""docs/errors.md lists every error code of the source under its exit code, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.error_codes import FAMILY, ROOT, error_codes

from hearth.runtime import cli

PAGE = (ROOT / "docs/errors.md").read_text()
SECTION = re.compile(r"^## (\d+): .*?$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
CODE_ROW = re.compile(r"^\| `([a-z]+\.[a-z0-9_]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
EXIT_ROW = re.compile(r"^\| (\d+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


def documented() -> dict[str, int]:
    return {
        code: int(exit_code)
        for exit_code, text in SECTION.findall(PAGE)
        for code, _, _ in CODE_ROW.findall(text)
    }


def test_every_code_stands_under_its_exit_code() -> None:
    assert documented() == error_codes()


def test_the_tables_are_in_order_and_name_no_code_twice() -> None:
    codes = [code for code, _, _ in CODE_ROW.findall(PAGE)]
    assert len(codes) == len(set(codes))
    for _, text in SECTION.findall(PAGE):
        section = [code for code, _, _ in CODE_ROW.findall(text)]
        assert section == sorted(section)


def test_every_exit_code_is_listed_with_its_exception() -> None:
    rows = {int(code): name.strip(" `") for code, name, _ in EXIT_ROW.findall(PAGE)}
    family = {exit_code: name for name, exit_code in FAMILY.items() if name != "HearthError"}
    others = {
        0: "",
        1: "any other",
        cli.INTERRUPTED: "KeyboardInterrupt",
        cli.PIPE_CLOSED: "BrokenPipeError",
    }
    assert rows == family | others


def test_a_code_that_cannot_be_read_off_is_refused(tmp_path: Path) -> None:
    """The scan itself: what it cannot see must not pass for nothing."""
    import ast

    from support.error_codes import literals

    expression = ast.parse("'a.b' if x else name()", mode="eval").body
    with pytest.raises(AssertionError, match="literal"):
        literals(expression, tmp_path)
