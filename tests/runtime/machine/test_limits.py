"""Samples of a machine's limits around runs, and how much memory is read for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hearth.runtime import native
from hearth.runtime.machine.limits import Bracket, MachineMeter, Sample, buffer_nbytes, last_cache
from hearth.runtime.machine.spread import Spread


@dataclass
class Rising:
    """1, 2, 3, ..."""

    taken: list[int] = field(default_factory=list)

    def sample(self) -> Sample:
        self.taken.append(len(self.taken) + 1)
        rate = (float(self.taken[-1]),)
        return Sample(rate, rate, rate, rate)


def test_each_run_has_the_samples_beside_it() -> None:
    bracket = Bracket(Rising())
    for _ in range(4):
        bracket.take()
    assert bracket.limits().read == Spread(2.5, 1, 4)
    assert bracket.beside(0).int8 == Spread(1.5, 1, 2)
    assert bracket.beside(2).f32 == Spread(3.5, 3, 4)


def test_the_machine(tmp_path: Path) -> None:
    memory = np.ones(1 << 16, np.uint8)
    meter = MachineMeter(2, native.isas()[-1], memory, 1 << 20, seconds=0.002)
    sample = meter.sample()
    for rates in (sample.read, sample.mapping, sample.int8, sample.f32):
        assert min(rates) > 0


def _cache(root: Path, *sizes: str) -> Path:
    for index, size in enumerate(sizes):
        (root / f"index{index}").mkdir(parents=True)
        (root / f"index{index}" / "size").write_text(size + "\n")
    return root


def test_the_last_cache(tmp_path: Path) -> None:
    assert last_cache(_cache(tmp_path / "a", "32K", "1024K", "96M")) == 96 << 20
    assert last_cache(_cache(tmp_path / "b", "?", "4096")) == 4096
    assert last_cache(tmp_path / "none") == 32 << 20


def test_memory_for_reading(tmp_path: Path) -> None:
    free = tmp_path / "meminfo"
    free.write_text("MemTotal: 1 kB\nMemAvailable: 100000000 kB\n")
    large = _cache(tmp_path / "a", "100M")
    assert buffer_nbytes(large, free) == 400 << 20
    assert buffer_nbytes(_cache(tmp_path / "b", "1M"), free) == 256 << 20
    assert buffer_nbytes(_cache(tmp_path / "c", "1G"), free) == 1 << 30
    free.write_text("MemAvailable: 409600 kB\n")
    assert buffer_nbytes(large, free) == 100 << 20
    assert buffer_nbytes(large, tmp_path / "nothing") == 400 << 20
