"""Kernels of AMX are tested everywhere: where the CPU has no tiles, their instructions are emulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.amx import amx

from hearth.runtime import native


@pytest.fixture(autouse=True, scope="module")
def amx_is_there() -> Iterator[None]:
    """For the tests of a file, where it can be."""
    if "avx512vnni" not in native.isas():
        yield
        return
    with amx():
        yield
