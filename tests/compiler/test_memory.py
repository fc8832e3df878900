"""The memory prediction holds, and limits are refused before any work: address space, control groups, the machine."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkpoint import Shape, write_checkpoint
from support.forks import in_child

from hearth.compiler import memory
from hearth.compiler.memory import Prediction, cgroup_free_nbytes, require
from hearth.schemas.errors import ResourceError

WIDE = Shape(hidden=256, layers=1, ffn=2048, vocab=40_000)
MIB = 1 << 20


COMPILE = """
import sys
from hearth.runtime.cli import run
from importlib.metadata import EntryPoint
entry = EntryPoint("compile", "hearth.compiler.cli:compile_command", "hearth.commands")
sys.exit(run(sys.argv[1:], {"compile": entry}))
"""


@pytest.mark.parametrize("weights", ["int4", "int3", "f16", "f32"])
def test_the_prediction_is_within_15_percent(tmp_path: Path, weights: str) -> None:
    """In a process of its own, as a user runs it: one that has freed memory before needs less."""
    source = write_checkpoint(tmp_path / "source", WIDE)
    arguments = ["compile", source, "-o", tmp_path / "m.har", "--weights", weights, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    predicted, compiled = (json.loads(line) for line in done.stdout.splitlines())
    assert predicted["peak_nbytes"] == compiled["predicted_peak"]
    assert 0.85 <= predicted["peak_nbytes"] / compiled["measured_peak"] <= 1.15


def test_streaming_does_not_grow_with_the_vocabulary() -> None:
    from hearth.compiler.lower.weights import PackedTensor
    from hearth.schemas.commands import Layout

    class Table:
        bits, group = 8, 0

        def __init__(self, rows: int) -> None:
            self.shape = (rows, 1536)

    small, large = (
        memory.streaming_nbytes(
            PackedTensor("t", 0, 0, Table(rows), Layout.Q8B16, False)  # type: ignore[arg-type]
        )
        for rows in (20_000, 200_000)
    )
    assert large - small == 8 * 180_000  # the scales


def test_an_address_space_limit_is_refused_with_its_figures() -> None:
    def work() -> None:
        limit = memory.status_nbytes("VmSize") + 16 * MIB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with pytest.raises(ResourceError, match="ulimit -v") as refused:
            require(Prediction(memory.status_nbytes("VmRSS"), 64 * MIB))
        assert refused.value.code == "resource.memory"
        assert refused.value.exit_code == 6

    in_child(work)


def test_what_fits_is_not_refused() -> None:
    require(Prediction(memory.status_nbytes("VmRSS"), MIB))


def test_mapped_pages_count_for_the_peak_alone() -> None:
    """The system takes them back where it must."""
    prediction = Prediction(now=10, packing=100, running=50, mapped=70)
    assert (prediction.peak, prediction.held) == (130, 100)
    require(Prediction(memory.status_nbytes("VmRSS"), MIB, MIB, mapped=1 << 50))


def test_more_than_the_machine_has_is_refused() -> None:
    with pytest.raises(ResourceError, match="the machine") as refused:
        require(Prediction(0, 1 << 50))
    assert refused.value.code == "resource.memory"


def _group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    """Version 2: the limits of every group above hold; cached file pages give way."""
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    root = tmp_path / "fs"
    _group(root / "outer/inner", {"memory.max": "max\n", "memory.current": "5\n"})
    stat = "anon 100\ninactive_file 30\nactive_file 20\n"
    _group(
        root / "outer",
        {"memory.max": "1000\n", "memory.current": "400\n", "memory.stat": stat},
    )
    assert cgroup_free_nbytes(root, own) == 650


def test_version_1_groups_count_too(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:cpu:/x\n4:memory:/job\n")
    _group(
        tmp_path / "fs/memory/job",
        {"memory.limit_in_bytes": "2000\n", "memory.usage_in_bytes": "500\n"},
    )
    assert cgroup_free_nbytes(tmp_path / "fs", own) == 1500


def test_a_container_sees_its_limit_at_the_root(tmp_path: Path) -> None:
    """Inside a namespace the process's path need not exist under the mount."""
    own = tmp_path / "own"
    own.write_text("0::/../../gone\n")
    _group(tmp_path / "fs", {"memory.max": "300\n", "memory.current": "100\n"})
    assert cgroup_free_nbytes(tmp_path / "fs", own) == 200


def test_no_control_group_means_no_limit(tmp_path: Path) -> None:
    assert cgroup_free_nbytes(tmp_path / "none", tmp_path / "absent") is None
