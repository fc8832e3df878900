"""How lines become messages."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from hearth.runtime.chat.reading import FIRST, MORE, read_message, read_piped, typed
from hearth.schemas.errors import InputError


def messages(*lines: str) -> tuple[list[str], list[str]]:
    """The messages of these lines, and the prompts that were shown."""
    left, prompts, found = list(lines), [], []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        if not left:
            raise EOFError
        return left.pop(0)

    try:
        while True:
            found.append(read_message(read))
    except EOFError:
        return found, prompts


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("one", "two"), ["one", "two"]),
        (("one\\", "two\\", "three", "four"), ["one\ntwo\nthree", "four"]),
        (('"""', "one", "", "two", '"""', "three"), ["one\n\ntwo", "three"]),
        (('"""one', 'two"""'), ["one\ntwo"]),
        (('"""all in one"""',), ["all in one"]),
        (('  """one', 'two"""  '), ["one\ntwo"]),
        (("", " "), ["", " "]),
        (("unfinished\\",), ["unfinished\n"[:-1]]),
        (('"""unfinished', "more"), ["unfinished\nmore"]),
        (('"""', "a backslash \\", '"""'), ["a backslash \\"]),
        ((), []),
    ],
)
def test_messages_of_several_lines(lines: tuple[str, ...], expected: list[str]) -> None:
    assert messages(*lines)[0] == expected


def test_the_prompt_says_that_more_is_to_come() -> None:
    assert messages("a\\", "b")[1] == [FIRST, MORE, FIRST]


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_lines_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "Zürich\r\n\nlast".encode())
    assert [read_piped(FIRST) for _ in range(3)] == ["Zürich", "", "last"]
    with pytest.raises(EOFError):
        read_piped(FIRST)


def test_a_line_that_is_no_text_is_refused_and_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    piped(monkeypatch, b"\xff\xfe\nfine\n")
    with pytest.raises(InputError) as found:
        read_piped(FIRST)
    assert found.value.code == "input.text"
    assert read_piped(FIRST) == "fine"


def test_a_history_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file/below", tmp_path / "new/history", None):
        with typed(place) as read:
            assert callable(read)
    assert (tmp_path / "new/history").exists()
