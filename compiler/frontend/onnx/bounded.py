"""Bounds on what running a part of an unknown graph may take: memory while it runs, and time."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

from hearth.runtime.graphs.onnx_engine import deadline

MEMORY = 3 << 28  # bytes that one probe may take beyond what the process has
SECONDS = 20.0


@contextmanager
def bounded_memory(nbytes: int = MEMORY) -> Iterator[None]:
    """Allocations that lead beyond the present size plus `nbytes` fail; the limit before holds again afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _mapped() + nbytes
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _mapped() -> int:
    """Bytes of address space in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@contextmanager
def bounded_time(seconds: float = SECONDS) -> Iterator[onnxruntime.RunOptions]:
    """Options with which a run stops, between two nodes, when its time is over."""
    with deadline(time.monotonic() + seconds) as options:
        options.log_severity_level = 4
        yield options
