"""Messages as they are typed: a line, lines joined by a backslash, or lines between triple quotes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hearth.schemas.errors import InputError

QUOTES = '"""'
FIRST, MORE = ">>> ", "... "
MOST_HISTORY = 1000  # lines kept between chats

ReadLine = Callable[[str], str]  # shows the prompt; EOFError at the end


def read_message(read: ReadLine) -> str:
    """One message; EOFError where there is none to come.

    A backslash at the end of a line goes on with the next; a line that begins with triple quotes goes on
    until a line that ends with them.
    """
    line = read(FIRST)
    if line.lstrip().startswith(QUOTES):
        return _quoted(line.lstrip().removeprefix(QUOTES), read)
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1].removesuffix("\\")
        try:
            lines.append(read(MORE))
        except EOFError:
            break
    return "\n".join(lines)


def _quoted(first: str, read: ReadLine) -> str:
    lines = [first]
    while not lines[-1].rstrip().endswith(QUOTES):
        try:
            lines.append(read(MORE))
        except EOFError:
            break
    lines[-1] = lines[-1].rstrip().removesuffix(QUOTES)
    return "\n".join(lines).strip("\n")


def read_piped(_: str) -> str:
    """A line of standard input that nobody types: no prompt is shown."""
    data = sys.stdin.buffer.readline()
    if not data:
        raise EOFError
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(
            "input.text",
            f"a line of standard input is not UTF-8 at byte {error.start}",
            expected="UTF-8",
        ) from None


@contextmanager
def typed(history: Path | None) -> Iterator[ReadLine]:
    """Lines with editing and the history of earlier chats, which is written where that can be."""
    try:
        import readline
    except ImportError:  # a Python without it
        yield input
        return
    if history is not None and history.exists():
        _quietly(lambda: readline.read_history_file(history))
    try:
        yield input
    finally:
        if history is not None:
            readline.set_history_length(MOST_HISTORY)
            _quietly(lambda: history.parent.mkdir(parents=True, exist_ok=True))
            _quietly(lambda: readline.write_history_file(history))


def _quietly(do: Callable[[], object]) -> None:
    """A history that cannot be kept is no reason to stop talking."""
    try:
        do()
    except OSError:
        return


def interactive() -> bool:
    """Whether a person types and reads."""
    return sys.stdin.isatty() and sys.stdout.isatty()
