"""The project's own Python source, parsed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PARTS = ("compiler", "runtime", "schemas")
Trees = Mapping[Path, ast.Module]  # by paths from the root


def source_trees() -> Trees:
    """Every file of the three parts; some seconds of work, to be done once by a file of tests."""
    return {
        path.relative_to(ROOT): ast.parse(path.read_text())
        for part in PARTS
        for path in sorted((ROOT / part).rglob("*.py"))
    }
