"""A command's own options go over HEARTH_* variables."""

from __future__ import annotations

import pytest

from hearth.runtime.options import Options, Placing, read_options
from hearth.schemas.errors import UsageError


@pytest.mark.parametrize(
    ("threads", "isa", "environment", "expected"),
    [
        (None, None, {}, Options()),
        (None, None, {"HEARTH_THREADS": "3", "HEARTH_ISA": "avx2"}, Options(3, "avx2")),
        (2, "portable", {"HEARTH_THREADS": "3", "HEARTH_ISA": "avx2"}, Options(2, "portable")),
        (None, None, {"HEARTH_THREADS": "", "HEARTH_ISA": ""}, Options()),
        (2, None, {"HEARTH_THREADS": "many"}, Options(2)),
    ],
)
def test_which_one_counts(
    threads: int | None, isa: str | None, environment: dict[str, str], expected: Options
) -> None:
    assert read_options(threads, isa, environment) == expected


def test_cores_of_the_environment() -> None:
    named = {"HEARTH_AFFINITY": "0-3"}
    given = Placing(affinity="0x1", lock=True)
    assert read_options(None, None, {}).placing == Placing()
    assert read_options(None, None, named).placing == Placing(affinity="0-3")
    assert read_options(None, None, named, given).placing == given
    assert given.wishes()["lock"]


@pytest.mark.parametrize("text", ["many", "1.5", "2 cores"])
def test_threads_are_a_number(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_options(None, None, {"HEARTH_THREADS": text})
    assert refused.value.code == "arguments.threads"
