"""Pools at work at once hold no race that ThreadSanitizer sees."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
KERNELS = ROOT / "runtime" / "kernels"
SOURCES = (
    ROOT / "tests" / "support" / "pool_race.cc",
    KERNELS / "executor" / "pool.cc",
    KERNELS / "executor" / "placement.cc",
)


def test_pools_of_several_callers(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path / "race"
    flags = ("-std=gnu++20", "-O1", "-g", "-fsanitize=thread", "-pthread", f"-I{KERNELS}")
    built = subprocess.run(
        [compiler, *flags, *map(str, SOURCES), "-o", str(program)], capture_output=True, text=True
    )
    if "cannot find" in built.stderr:
        pytest.skip("the compiler has no ThreadSanitizer")
    assert built.returncode == 0, built.stderr[-2000:]
    ran = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "0 wrong\n"), ran.stderr[-4000:]
