"""Energy counters: packages alone, summed, round the end of their range; none where the machine shows none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hearth.runtime.machine.energy import energy_meter


def _zone(root: Path, zone: str, name: str, energy: str = "100", most: str = "999") -> Path:
    folder = root / zone
    folder.mkdir(parents=True)
    for file, text in {"name": name, "energy_uj": energy, "max_energy_range_uj": most}.items():
        (folder / file).write_text(text + "\n")
    return folder / "energy_uj"


def test_packages_are_added_up(tmp_path: Path) -> None:
    first = _zone(tmp_path, "intel-rapl:0", "package-0")
    second = _zone(tmp_path, "intel-rapl:1", "package-1", "200")
    _zone(tmp_path, "intel-rapl:0:0", "core", "1")
    _zone(tmp_path, "intel-rapl:2", "psys", "1")
    meter = energy_meter(tmp_path)
    before = meter.read()
    assert before == (100, 200)
    first.write_text("150")
    second.write_text("260")
    assert meter.joules(before, meter.read()) == pytest.approx(110e-6)


def test_a_counter_begins_again(tmp_path: Path) -> None:
    file = _zone(tmp_path, "intel-rapl:0", "package-0", "990")
    meter = energy_meter(tmp_path)
    before = meter.read()
    file.write_text("5")
    assert meter.joules(before, meter.read()) == pytest.approx(15e-6)


def test_none_are_none(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", "not a number")
    (tmp_path / "intel-rapl").mkdir()
    for root in (tmp_path, tmp_path / "nowhere"):
        meter = energy_meter(root)
        assert meter.counters == meter.read() == ()
        assert meter.joules((), ()) is None
