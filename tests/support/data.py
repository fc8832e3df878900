"""Real inputs: the folder that HEARTH_DATA names; a test that needs what is not there skips and says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GIVEN = os.environ.get("HEARTH_DATA")
DATA = Path(GIVEN or "/nonexistent")
TEMPLATES = sorted((DATA / "templates/chat").glob("*.jinja"))
# One placeholder where there are none, so that the parametrised tests are counted as skipped by name.
TEMPLATE_CASES = TEMPLATES or [
    pytest.param(Path("none"), marks=pytest.mark.skip("HEARTH_DATA has no templates/chat"))
]


def real(*parts: str) -> Path:
    """A file or folder of the data; skips the test without it."""
    if GIVEN is None:
        pytest.skip("HEARTH_DATA is not set")
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"HEARTH_DATA has no {'/'.join(parts)}")
    return path


def checkpoint(name: str) -> Path:
    """A real checkpoint of the data."""
    return real("checkpoints", name)
