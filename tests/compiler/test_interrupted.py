"""A compile that does not end leaves nothing: killed, interrupted, out of disk, a bad weight half way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoint import Shape, write_checkpoint
from support.compiling import wanted
from support.forks import kill_child_after

from hearth.compiler.conduct import Conduct
from hearth.compiler.pipeline import compile_model
from hearth.runtime.progress import Silent
from hearth.schemas.errors import HearthError


class Hook(Silent):
    """Calls back whenever bytes were written."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def advance(self, units: int) -> None:
        self.call()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", Shape(layers=4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.06, 0.1, 0.15, 0.2, 0.3])
def test_a_killed_compile_leaves_no_file(source: Path, folder: Path, seconds: float) -> None:
    """Every write takes 5 ms, so that the kill falls before, within and between sections."""

    def work() -> None:
        slow = Hook(lambda: time.sleep(0.005))
        compile_model(source, folder / "m.har", wanted(weights="int4"), Conduct(progress=slow))
        signal.pause()

    kill_child_after(seconds, work)
    left = sorted(os.listdir(folder))
    assert left in ([], ["m.har"])
    if left:
        from hearth.runtime.archive import open_archive

        open_archive(folder / "m.har", check="full")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_an_interrupted_compile_leaves_what_was_there(
    source: Path, folder: Path, error: type[BaseException]
) -> None:
    before = b"an older archive"
    (folder / "m.har").write_bytes(before)
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise error

    with pytest.raises(error):
        compile_model(
            source, folder / "m.har", wanted(weights="int4"), Conduct(progress=Hook(stop))
        )
    assert sorted(os.listdir(folder)) == ["m.har"]
    assert (folder / "m.har").read_bytes() == before


def test_a_bad_weight_found_late_leaves_nothing(source: Path, folder: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"][3, 5] = np.nan
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(HearthError, match=r"layers\.3\.mlp\.down_proj"):
        compile_model(source, folder / "m.har", wanted(weights="int4"))
    assert os.listdir(folder) == []


def test_an_output_is_replaced_when_the_new_one_is_whole(source: Path, folder: Path) -> None:
    (folder / "m.har").write_bytes(b"old")
    report = compile_model(source, folder / "m.har", wanted(weights="int4"))
    assert (folder / "m.har").stat().st_size == report.packed.archive_nbytes
    assert os.listdir(folder) == ["m.har"]
