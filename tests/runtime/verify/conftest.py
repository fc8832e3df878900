"""What the tests of `hearth verify` share: the demo's archive, and a verification in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Archives

from hearth.runtime import native
from hearth.runtime.verify.report import Report
from hearth.runtime.verify.run import verify
from hearth.runtime.verify.subject import Subject, Wanted

Verify = Callable[..., Report]


@pytest.fixture(scope="session")
def archive(archives: Archives) -> Path:
    """The demo model, with tokenizer and chat template."""
    return archives("hearthside", weights="int4", context=160)


@pytest.fixture
def run() -> Verify:
    """The report of a file."""

    def run(path: Path, **wanted: object) -> Report:
        defaults = {"threads": 2, "isas": (native.isas()[-1],)}
        return verify(Subject(path, Wanted(**{**defaults, **wanted})))  # type: ignore[arg-type]

    return run
