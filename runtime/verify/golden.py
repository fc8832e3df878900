"""Replay the golden vectors of an archive with given kernels and threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hearth.runtime.archive import Archive
from hearth.runtime.encoder import Encoder
from hearth.runtime.loader import any_of
from hearth.runtime.model import Model
from hearth.runtime.verify.graphs import graph_differences
from hearth.runtime.verify.tokens import differences, tokens_case
from hearth.runtime.verify.vectors import vector_case, vector_differences
from hearth.schemas.golden import Golden, VectorCase


def replay(archive: Archive, golden: Golden, threads: int, isa: str) -> Iterator[str]:
    """What this machine computes otherwise than was recorded, case by case."""
    match any_of(archive, threads, isa):
        case Model() as model:
            for case in golden.tokens:
                yield from differences(tokens_case(model, case.ids, len(case.continuation)), case)
            for each in _vectors(model, golden):
                again = vector_case(model.vectors(), each.ids, each.types)
                yield from vector_differences(again, each)
        case Encoder() as encoder:
            for each in golden.vectors:
                yield from vector_differences(vector_case(encoder, each.ids, each.types), each)
        case graph:
            for one in golden.graphs:
                yield from graph_differences(graph, one)


def _vectors(model: Model, golden: Golden) -> Sequence[VectorCase]:
    """Those of a decoder with a pooling; no other has any."""
    return golden.vectors if model.manifest.embedding is not None else ()


def tokens_of(golden: Golden) -> int:
    """Tokens that the model reads in all."""
    decoder = (len(case.ids) + len(case.continuation) for case in golden.tokens)
    return sum(decoder) + sum(len(case.ids) for case in golden.vectors)


def count_cases(golden: Golden) -> int:
    """Cases that run the model."""
    return len(golden.tokens) + len(golden.vectors) + len(golden.graphs)
