"""A machine that does not suffice, or a caller who closes what a program reads and writes: refused or endured.

Limits are the system's own, on processes of their own; docs/errors.md lists the codes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import command_line
from support.checkpoint import Shape, write_checkpoint
from support.command_line import hearth
from support.desk import SHAPE, Desk
from support.disk import mounted_disk

from hearth.runtime.archive import open_archive

Run = subprocess.CompletedProcess[str]
LARGE = Shape(hidden=512, layers=2, heads=8, kv_heads=2, ffn=1536, vocab=4096)
# Loads everything, then allows itself 8 MiB more than it has.
COMPILE_WITHOUT_MEMORY = """
import resource, sys
from hearth.compiler import memory
from support.command_line import hearth
assert hearth("compile", sys.argv[1], "-o", sys.argv[3]) == 0
limit = memory.status_nbytes("VmSize") + (8 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(hearth("compile", sys.argv[2], "-o", sys.argv[3] + ".large", "--weights", "f32"))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 256 KiB."""
    with mounted_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def run(*arguments: object, setup: Callable[[], None] | None = None) -> Run:
    """`hearth` in a process that is set up first."""
    command = [sys.executable, command_line.__file__, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=setup)


def limit(kind: int, nbytes: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (nbytes, nbytes))


def refused(found: Run, code: str) -> None:
    """Exit code 6 and one line."""
    assert found.returncode == 6, found.stderr
    (line,) = found.stderr.splitlines()
    assert line.startswith("hearth: ")
    assert line.endswith(f"[{code}]")


def test_a_disk_too_small_is_refused_before_any_work(desk: Desk, small_disk: Path) -> None:
    write_checkpoint(desk.source, LARGE)
    refused(run(*desk.to(small_disk / "m.har")), "resource.disk_full")
    assert os.listdir(small_disk) == []


def test_a_disk_that_fills_while_writing_leaves_nothing(desk: Desk) -> None:
    before = desk.listing()
    found = run(*desk.compile(), setup=limit(resource.RLIMIT_FSIZE, 8192))
    refused(found, "resource.disk_full")
    assert desk.listing() == before


def test_too_little_memory_is_refused_with_its_prediction(desk: Desk) -> None:
    large = write_checkpoint(desk.folder / "large", LARGE)
    command = [sys.executable, "-c", COMPILE_WITHOUT_MEMORY, desk.source, large, desk.folder / "o"]
    found = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=command_line.ROOT / "tests"
    )
    refused(found, "resource.memory")
    assert "compiling needs" in found.stderr
    assert not (desk.folder / "o.large").exists()


def test_no_memory_for_a_cache_is_refused(desk: Desk) -> None:
    """A cache of 2 GiB in a process that may have 1.5: the archive is fine, the machine is not."""
    wide = replace(SHAPE, hidden=256, heads=32, kv_heads=32, context=1 << 20)
    write_checkpoint(desk.source, wide)
    (desk.source / "tokenizer.json").unlink()
    assert hearth(*desk.compile("--context", 1 << 20, "--kv", "f32")) == 0
    arguments = ("run", desk.folder / "out.har", "1", "--ids")
    refused(run(*arguments, setup=limit(resource.RLIMIT_AS, 3 << 29)), "resource.memory")


def test_text_that_is_not_utf8_is_refused(desk: Desk) -> None:
    command = [sys.executable, command_line.__file__, "run", desk.archive, "-"]
    found = subprocess.run(command, input=b"\xff\xfe", capture_output=True, timeout=60)
    assert (found.returncode, b"input.text" in found.stderr) == (5, True)
    assert b"Traceback" not in found.stderr


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_standard_streams_lead_nowhere(desk: Desk, closed: tuple[int, ...]) -> None:
    """Neither a traceback, nor a line of text in the archive, which must not get their numbers."""
    found = run(*desk.compile("--json"), setup=lambda: [os.close(number) for number in closed])
    assert (found.returncode, "Traceback" in found.stderr) == (0, False)
    open_archive(desk.folder / "out.har", check="full")


def test_without_standard_input_there_is_no_prompt(desk: Desk) -> None:
    found = run("run", desk.archive, setup=lambda: os.close(0))
    assert (found.returncode, "[input.empty]" in found.stderr) == (5, True), found.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_progress_and_errors_nobody_can_read_change_no_exit_code(desk: Desk) -> None:
    def exit_code(*arguments: object) -> int:
        command = [sys.executable, command_line.__file__, *map(str, arguments)]
        with open("/dev/full", "w") as full:
            return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=full).returncode

    assert exit_code(*desk.compile("--json")) == 0
    open_archive(desk.folder / "out.har", check="full")
    assert exit_code(*desk.ids("--temperature", -1)) == 2
