"""A small unfused decoder as a frontend makes it, for the tests of every pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.graphs import Tiny
from support.graphs import decoder as build

from hearth.compiler.ir.graph import Graph


@pytest.fixture
def decoder() -> Callable[..., Graph]:
    """Build an unfused decoder graph by the fields of `Tiny`: layers, tied, bias, kv, ..."""

    def made(**shape: Any) -> Graph:
        return build(Tiny(**shape))

    return made
