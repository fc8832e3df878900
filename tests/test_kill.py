"""Commands that do not end leave nothing: `hearth compile` killed or interrupted, an append killed, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import command_line
from support.checkpoint import Shape, write_checkpoint

from hearth.runtime.archive import open_archive

# Enough weights for quantising and packing to take about as long as starting the interpreter.
LARGE = Shape(hidden=512, layers=4, heads=8, kv_heads=2, ffn=1536, vocab=4096)
APPEND = """
import sys
from hearth.runtime.archive import append
chunks = (bytes([n]) * 65536 for n in range(200))
print("appending", flush=True)
append(sys.argv[1], [("lora/x", "adapter", chunks)])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), LARGE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


def start(source: Path, output: Path) -> subprocess.Popen[bytes]:
    """`hearth compile` in a process of its own."""
    arguments = ["compile", source, "-o", output, "--target", "x86-64-v3", "--json"]
    command = [sys.executable, command_line.__file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@dataclass(frozen=True)
class Moment:
    """When to send a signal: `delay` seconds after the start, or after the long part began."""

    packing: bool
    delay: float


@pytest.fixture(scope="module")
def moments(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Moment, ...]:
    """Ten random moments of a whole compile, which this one takes the times of."""
    output = tmp_path_factory.mktemp("whole") / "m.har"
    began = time.monotonic()
    compiling = start(source, output)
    wait_for_packing(compiling)
    packing = time.monotonic()
    _, errors = compiling.communicate()
    assert compiling.returncode == 0, errors
    open_archive(output, check="full")
    early, late = packing - began, time.monotonic() - packing
    draw = random.Random(1)
    return (
        Moment(True, 0.0),
        *(Moment(True, draw.uniform(0, late)) for _ in range(6)),
        *(Moment(False, draw.uniform(0, early)) for _ in range(3)),
    )


def wait_for_packing(compiling: subprocess.Popen[bytes]) -> None:
    assert compiling.stdout is not None
    assert b"predicted" in compiling.stdout.readline()


def stop(source: Path, output: Path, moment: Moment, number: int) -> tuple[int, bytes]:
    """The exit code and stderr of a compile that is sent a signal."""
    compiling = start(source, output)
    if moment.packing:
        wait_for_packing(compiling)
    time.sleep(moment.delay)
    compiling.send_signal(number)
    _, errors = compiling.communicate(timeout=60)
    return compiling.returncode, errors


def test_a_killed_compile_leaves_nothing(
    source: Path, folder: Path, moments: tuple[Moment, ...]
) -> None:
    codes = []
    for moment in moments:
        code, _ = stop(source, folder / "m.har", moment, signal.SIGKILL)
        codes.append(code)
        left = os.listdir(folder)
        assert left in ([], ["m.har"])
        if left:  # it was whole before the signal came
            open_archive(folder / "m.har", check="full")
            (folder / "m.har").unlink()
        else:
            assert code == -signal.SIGKILL
    assert codes[0] == -signal.SIGKILL


def test_a_killed_compile_keeps_the_old_archive(
    source: Path, folder: Path, moments: tuple[Moment, ...]
) -> None:
    old = b"an older archive"
    for moment in moments[:3]:
        (folder / "m.har").write_bytes(old)
        code, _ = stop(source, folder / "m.har", moment, signal.SIGKILL)
        assert os.listdir(folder) == ["m.har"]
        if (folder / "m.har").read_bytes() == old:
            assert code == -signal.SIGKILL
        else:
            open_archive(folder / "m.har", check="full")


def test_an_interrupted_compile_is_130_and_leaves_nothing(source: Path, folder: Path) -> None:
    for delay in (0.0, 0.05):
        code, errors = stop(source, folder / "m.har", Moment(True, delay), signal.SIGINT)
        assert (code, b"Traceback" in errors) == (130, False), errors
        assert os.listdir(folder) == []


def test_a_killed_append_leaves_the_old_archive_readable(source: Path, folder: Path) -> None:
    path = folder / "m.har"
    shape = Shape(hidden=16, layers=1, heads=2, kv_heads=1, ffn=24, vocab=40)
    tiny = write_checkpoint(folder.parent / "tiny", shape)
    assert command_line.hearth("compile", tiny, "-o", path) == 0
    old, draw = path.read_bytes(), random.Random(3)
    for _ in range(6):
        appending = subprocess.Popen(
            [sys.executable, "-c", APPEND, str(path)], stdout=subprocess.PIPE
        )
        assert appending.stdout is not None
        assert appending.stdout.readline() == b"appending\n"
        time.sleep(draw.uniform(0, 0.06))
        appending.kill()
        appending.communicate(timeout=60)
        archive = open_archive(path, check="full")
        whole = "lora/x" in archive.entries
        assert whole == (archive.header.file_nbytes > len(old))
        assert whole or path.read_bytes()[: len(old)] == old
        assert command_line.hearth("run", path, "1 2", "--ids", "--max-tokens", 2) == 0
        assert os.listdir(folder) == ["m.har"]
        path.write_bytes(old)
