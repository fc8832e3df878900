"""The command line in this process, with the verbs that pyproject.toml declares."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from hearth.runtime.cli import GROUP, Commands, run

ROOT = Path(__file__).parent.parent.parent
CommandLine = Callable[..., int]


def project() -> dict[str, object]:
    """The [project] table."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(table, dict)
    return table


def declared() -> Commands:
    """The entry points as an installation would find them."""
    points = project()["entry-points"]
    assert isinstance(points, dict)
    return {name: EntryPoint(name, value, GROUP) for name, value in points[GROUP].items()}


def hearth(*arguments: object) -> int:
    """Run `hearth ARGUMENTS`; the exit code."""
    return run([str(argument) for argument in arguments], declared())


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own: what a shell sees."""
    command = [sys.executable, __file__, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


if __name__ == "__main__":
    sys.exit(hearth(*sys.argv[1:]))
