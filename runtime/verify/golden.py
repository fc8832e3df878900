"""Replay the golden vectors of an archive with given kernels and threads."""

from __future__ import annotations

from collections.abc import Iterator

from hearth.runtime.archive import Archive
from hearth.runtime.graph_model import graph_model_of
from hearth.runtime.loader import model_of
from hearth.runtime.verify.graphs import graph_differences
from hearth.runtime.verify.tokens import differences, tokens_case
from hearth.schemas.golden import Golden


def replay(archive: Archive, golden: Golden, threads: int, isa: str) -> Iterator[str]:
    """What this machine computes otherwise than was recorded, case by case."""
    if golden.tokens:
        model = model_of(archive, threads, isa)
        for case in golden.tokens:
            yield from differences(tokens_case(model, case.ids, len(case.continuation)), case)
    if golden.graphs:
        graph = graph_model_of(archive, threads)
        for each in golden.graphs:
            yield from graph_differences(graph, each)


def count_cases(golden: Golden) -> int:
    """Cases that run the model."""
    return len(golden.tokens) + len(golden.vectors) + len(golden.graphs)
