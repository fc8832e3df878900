"""Targets: known by name, native resolved, the others refused with the list."""

from __future__ import annotations

import pytest

from hearth.compiler.lower.targets import TARGETS, find_target, native_target
from hearth.schemas.errors import UsageError


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_found_by_its_name(name: str) -> None:
    assert find_target(name).name == name


@pytest.mark.parametrize(
    ("isas", "expected"),
    [
        (("portable",), "x86-64-v3"),
        (("portable", "avx2"), "x86-64-v3"),
        (("portable", "avx2", "avx512vnni"), "x86-64-avx512vnni"),
        (("portable", "avx2", "avx512vnni", "amx"), "x86-64-amx"),
    ],
)
def test_native_is_the_best_the_cpu_has(isas: tuple[str, ...], expected: str) -> None:
    assert find_target("native", native_target(isas)).name == expected


@pytest.mark.parametrize(
    ("name", "code"),
    [("armv8.2-dotprod", "target.planned"), ("sparc", "target.unknown"), ("", "target.unknown")],
)
def test_other_names_are_refused(name: str, code: str) -> None:
    with pytest.raises(UsageError, match="x86-64-v3") as refused:
        find_target(name)
    assert refused.value.code == code


def test_x86_targets_share_their_layouts() -> None:
    assert len({tuple(target.layouts.items()) for target in TARGETS.values()}) == 1
