"""Errors: a message a person can act on, and why a file could not be read in words."""

from __future__ import annotations

from pathlib import Path

from hearth.schemas.errors import UsageError, reason


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return reason(error)


def test_a_message_says_where_what_instead_and_what_to_do() -> None:
    error = UsageError("a.b", "found", expected="wanted", where="there", remedy="do so")
    assert str(error) == "there: found; expected wanted; do so [a.b]"
    assert str(UsageError("a.b", "found")) == "found [a.b]"


def test_a_reason_bears_neither_name_nor_number(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    assert read(tmp_path / "nothing") == "cannot be read: No such file or directory"
    assert read(tmp_path / "bytes") == "is not UTF-8 at byte 2"
    assert reason(EOFError("it ends early")) == "cannot be read: it ends early"
