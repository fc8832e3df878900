"""Big cores and one thread of each, on trees as kernels show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hearth.runtime.machine.topology import best_cores, big_cores, core_list, one_of_each


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def siblings(groups: list[str]) -> dict[str, str]:
    """topology/thread_siblings_list of every core of every group."""
    return {
        f"system/cpu/cpu{core}/topology/thread_siblings_list": group
        for group in groups
        for core in core_list(group)
    }


def per_core(name: str, values: list[int]) -> dict[str, str]:
    return {f"system/cpu/cpu{core}/{name}": str(value) for core, value in enumerate(values)}


ALDER_LAKE = {  # i7-12700: eight performance cores of two threads, four efficient ones
    **siblings([f"{2 * core}-{2 * core + 1}" for core in range(8)]),
    **siblings([str(core) for core in range(16, 20)]),
    "cpu_core/cpus": "0-15",
    "cpu_atom/cpus": "16-19",
    **per_core("cpufreq/cpuinfo_max_freq", [4_900_000] * 16 + [3_600_000] * 4),
}
BIG_LITTLE = {  # four A55, three A78, one X1
    **siblings([str(core) for core in range(8)]),
    **per_core("cpu_capacity", [250] * 4 + [850] * 3 + [1024]),
}
SERVER = siblings([f"{core},{core + 8}" for core in range(8)])  # two threads a core, all alike
PHOENIX = {  # two fast cores and four compact ones, told apart by their clock alone
    **siblings([f"{core},{core + 6}" for core in range(6)]),
    **per_core("cpufreq/cpuinfo_max_freq", ([5_000_000] * 2 + [3_500_000] * 4) * 2),
}
FAVOURED = {  # one core that may go a little faster is no other kind of core
    **siblings([str(core) for core in range(4)]),
    **per_core("cpufreq/cpuinfo_max_freq", [5_000_000, 5_200_000, 5_000_000, 5_000_000]),
}


@pytest.mark.parametrize(
    ("files", "allowed", "best"),
    [
        (ALDER_LAKE, range(20), (0, 2, 4, 6, 8, 10, 12, 14)),
        (ALDER_LAKE, range(16, 20), (16, 17, 18, 19)),  # a cpuset of little cores
        (ALDER_LAKE, (1, 2, 3, 17), (1, 2)),
        (BIG_LITTLE, range(8), (4, 5, 6, 7)),
        (BIG_LITTLE, range(4), (0, 1, 2, 3)),
        (SERVER, range(16), tuple(range(8))),
        (SERVER, (3, 11, 12), (3, 12)),  # a container's cpuset
        (PHOENIX, range(12), (0, 1)),
        (FAVOURED, range(4), (0, 1, 2, 3)),
        ({}, range(3), (0, 1, 2)),  # nothing to read
        ({"cpu_core/cpus": "nonsense"}, range(2), (0, 1)),
        (per_core("cpu_capacity", [1024]), range(2), (0, 1)),  # of one core alone
    ],
)
def test_best_cores(
    tmp_path: Path, files: dict[str, str], allowed: range | tuple[int, ...], best: tuple[int, ...]
) -> None:
    assert best_cores(allowed, tree(tmp_path, files)) == best


def test_the_two_steps(tmp_path: Path) -> None:
    root = tree(tmp_path, ALDER_LAKE)
    assert big_cores(range(20), root) == tuple(range(16))
    assert one_of_each((0, 1, 16), root) == (0, 16)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0", (0,)), ("0-2,8\n", (0, 1, 2, 8)), ("3,1", (1, 3)), ("1,1-2", (1, 2))],
)
def test_lists(text: str, cores: tuple[int, ...]) -> None:
    assert core_list(text) == cores


@pytest.mark.parametrize(
    "text", ["", "a", "1-", "-1", "2-1", "0-9999999999", "1024", "1,,2", "²", "0 1"]
)
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"core|backwards"):
        core_list(text)
