"""`hearth chat` in a terminal: streaming, Ctrl-C stops the answer and not the program, Ctrl-D leaves, history."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import command_line

from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.schemas.recipe import make_recipe

if TYPE_CHECKING:
    from conftest import Archives

LIMIT_S = 60.0
CTRL_C, CTRL_D, UP = b"\x03", b"\x04", b"\x1b[A"
PROMPT = ">>> "


class Terminal:
    """A chat in a pseudo-terminal; `seen` is all that was shown so far."""

    def __init__(self, file: Path, *options: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, command_line.__file__, "chat", str(file), *options],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)
        self.seen = ""

    def type(self, keys: str | bytes) -> None:
        os.write(self._master, keys.encode() if isinstance(keys, str) else keys)

    def expect(self, pattern: str) -> str:
        """What is shown up to and with the pattern, after what was expected before."""
        until = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            assert time.monotonic() < until, f"{pattern!r} is not in {self.seen!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._master, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    assert re.search(pattern, self.seen, re.DOTALL), self.seen
        shown, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return shown

    def resize(self, rows: int, columns: int) -> None:
        """As a window that is drawn smaller does it."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def _take_terminal() -> None:
    """Make standard input the controlling terminal, whose Ctrl-C reaches the process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def endless(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with an end token that never comes."""
    folder = tmp_path_factory.mktemp("endless")
    shutil.copytree(archives.checkpoint("hearthside"), folder / "model")
    config = {"bos_token_id": 0, "eos_token_id": 2}
    (folder / "model/generation_config.json").write_text(json.dumps(config))
    recipe = {"source": "s", "output": "o", "target": "x86-64-v3", "weights": "int4"}
    compile_model(
        folder / "model", folder / "endless.har", options(make_recipe(recipe), frozenset())
    )
    return folder / "endless.har"


@pytest.fixture
def terminal(endless: Path, tmp_path: Path) -> Iterator[Terminal]:
    found = Terminal(endless, "--history", str(tmp_path / "history"), "--threads", "1")
    yield found
    found.close()


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal) -> None:
    terminal.expect(PROMPT)
    terminal.type("Tell me of a fox.\r")
    terminal.expect("fox\\.\r\n.*[a-z]{2}")  # it streams
    terminal.type(CTRL_C)
    terminal.expect("stopped")
    terminal.expect(PROMPT)
    terminal.type("/list\r")
    terminal.expect("chat: 2 messages")
    terminal.expect(PROMPT)
    terminal.type("/resume\r")
    terminal.expect("resume\r\n.*[a-z]{2}")
    terminal.type(CTRL_C)
    terminal.expect("stopped.*" + PROMPT)
    assert terminal.process.poll() is None
    terminal.type("/bye\r")
    assert terminal.process.wait(LIMIT_S) == 0


def test_ctrl_c_at_the_prompt_and_ctrl_d(terminal: Terminal) -> None:
    terminal.expect(PROMPT)
    terminal.type("half a line")
    terminal.expect("half a line")
    time.sleep(0.2)  # a signal between two reads of a key is seen with the next key only
    terminal.type(CTRL_C)
    terminal.expect("Ctrl-D.*" + PROMPT)
    terminal.type(CTRL_D)
    assert terminal.process.wait(LIMIT_S) == 0


def test_lines_are_kept_for_the_next_chat(
    terminal: Terminal, endless: Path, tmp_path: Path
) -> None:
    terminal.expect(PROMPT)
    terminal.type('"""\r')
    terminal.expect(r"\.\.\. ")
    terminal.type('"""\r/stats\r')
    terminal.expect("0 of 512 tokens.*" + PROMPT)
    terminal.type(CTRL_D)
    assert terminal.process.wait(LIMIT_S) == 0
    again = Terminal(endless, "--history", str(tmp_path / "history"))
    again.expect(PROMPT)
    again.type(UP + b"\r")
    again.expect("0 of 512 tokens.*" + PROMPT)
    again.type(CTRL_D)
    assert again.process.wait(LIMIT_S) == 0
    again.close()


def test_a_window_may_change_its_size_at_any_time(terminal: Terminal) -> None:
    terminal.expect(PROMPT)
    terminal.type("/sta")
    terminal.expect("/sta")
    terminal.resize(5, 12)
    terminal.type("ts\r")
    terminal.expect("0 of 512 tokens.*" + PROMPT)
    terminal.type("Tell me of a fox.\r")
    terminal.expect("\r\n.*[a-z]{2}")
    terminal.resize(40, 120)
    terminal.expect("[a-z]{2}")
    terminal.type(CTRL_C)
    terminal.expect("stopped.*" + PROMPT)


def test_what_goes_wrong_is_said_and_the_chat_goes_on(terminal: Terminal, endless: Path) -> None:
    terminal.expect(PROMPT)
    for typed, said in [
        (b"\xff\xfe\r", r"input\.text"),
        ("/save /proc/nowhere\r", r"resource\.unwritable"),
        (f"/load {endless}\r", r"context\.bad_magic"),
    ]:
        terminal.type(typed)
        terminal.expect(f"{said}.*{PROMPT}")
    terminal.type("/list\r")
    terminal.expect("chat: ")


def test_a_terminal_that_is_closed_ends_the_chat(terminal: Terminal) -> None:
    terminal.expect(PROMPT)
    terminal.type("Tell me of a fox.\r")
    terminal.expect("fox\\.\r\n.*[a-z]{2}")
    terminal.hang_up()
    terminal.process.wait(LIMIT_S)
