"""The default number of threads honours affinity and the control group's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hearth.runtime.machine.cores import available_cores

MANY = set(range(16))


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: MANY)


def group(tmp_path: Path, own: str, files: dict[str, str]) -> int:
    (tmp_path / "cgroup").write_text(own)
    for name, text in files.items():
        place = tmp_path / "root" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return available_cores(tmp_path / "root", tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a\n", {"a/cpu.max": "400000 100000", "cpu.max": "300000 100000"}, 3),
        (
            "3:cpu,cpuacct:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "200000", "cpu/x/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("3:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, 16),
        ("0::/\n", {"cpu.max": "nonsense"}, 16),
    ],
)
def test_quota(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    assert group(tmp_path, own, files) == cores


def test_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert group(tmp_path, "0::/\n", {"cpu.max": "400000 100000"}) == 1
