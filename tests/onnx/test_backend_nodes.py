"""The ONNX standard's own node tests, through compile and runtime: what onnxruntime passes alone passes here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.onnx_graphs import compiled, difference, engine, feeds, input_names, saved, values

from hearth.schemas.errors import HearthError

onnx_cases = pytest.importorskip("onnx.backend.test.case.node")

# Cases that onnxruntime passes alone and the archive does not, each with the reason.
NOT_HERE: Mapping[str, str] = {}
SHARDS = 16  # cases take 7 ms each; a shard is what one test runs
LEAST = 0.97


@cache
def cases() -> list[Any]:
    """All of them, in the order of the standard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # references compute with infinities on purpose
        return list(onnx_cases.collect_testcases(None))


def wrong(case: Any, run: Any) -> str:
    """What a runner gives otherwise than the case expects."""
    names = input_names(case.model)
    outputs = [each.name for each in case.model.graph.output]
    for given, expected in case.data_sets:
        found = run(feeds(names, given))
        for name, value in zip(outputs, expected, strict=False):
            differs = difference(found[name], values(value), case.rtol, case.atol)
            if differs:
                return f"{name}: {differs}"
    return ""


def alone(case: Any) -> str:
    try:
        return wrong(case, engine(case.model).run)
    except HearthError as error:
        return str(error)


def through(case: Any, folder: Path) -> str:
    try:
        return wrong(case, compiled(saved(case.model, folder), folder / "model.har").run)
    except HearthError as error:
        return str(error)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_what_onnxruntime_passes_alone_passes_here(shard: int, tmp_path: Path) -> None:
    mine = cases()[shard::SHARDS]
    passed = [case for case in mine if not alone(case)]
    assert len(passed) > len(mine) / 2
    lost = {case.name: why for case in passed if (why := through(case, tmp_path))}
    listed = {case.name for case in mine} & NOT_HERE.keys()
    assert lost.keys() == listed, {name: lost.get(name, "passes") for name in lost.keys() ^ listed}


def test_few_are_listed() -> None:
    names = {case.name for case in cases()}
    assert len(names) >= 1884
    assert NOT_HERE.keys() <= names
    assert len(NOT_HERE) <= (1 - LEAST) * 1400  # onnxruntime 1.31 alone passes 1,490
