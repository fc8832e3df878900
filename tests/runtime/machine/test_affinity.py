"""Masks as users give them, and where threads stay when nobody asks."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from hearth.runtime.machine import affinity
from hearth.runtime.machine.affinity import (
    Affinity,
    check_count,
    default_places,
    read_affinity,
    spelled,
)
from hearth.schemas.errors import UsageError


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


@pytest.mark.parametrize(
    ("asked", "cores"),
    [
        ("0-3,8", (0, 1, 2, 3, 8)),
        ("0x10f", (0, 1, 2, 3, 8)),
        ("0X2", (1,)),
        ("3", (3,)),
        ([8, 0], (0, 8)),
        (range(2), (0, 1)),
    ],
)
def test_masks(asked: str | Iterable[int], cores: tuple[int, ...]) -> None:
    assert read_affinity(asked) == Affinity(cores)
    assert read_affinity(None, asked, None) == Affinity(None, cores)
    assert read_affinity(None, None, asked) == Affinity(None, None, cores)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "0x0",
        "0x",
        "0xg",
        "a",
        "1-0",
        "16",
        "0x10000",
        "0-9999",
        "0x1" + "0" * 300,
        [],
        [1.5],
        [-1],
        [99],
    ],
)
def test_what_is_no_mask(asked: str | Iterable[int]) -> None:
    with pytest.raises(UsageError) as refused:
        read_affinity(asked)
    assert refused.value.code == "arguments.affinity"


def test_a_phase_has_its_own_cores_or_those_of_all() -> None:
    asked = read_affinity("0-3", decode="4,5")
    assert asked.of("prefill") == (0, 1, 2, 3)
    assert asked.of("decode") == (4, 5)
    assert asked.of("main") == (0, 1, 2, 3)
    assert read_affinity(prefill="1").of("decode") is None


def test_as_many_threads_as_cores_asked_for() -> None:
    assert Affinity().threads() is None
    assert read_affinity("0-3").threads() == 4
    assert read_affinity(prefill="0-3").threads() is None
    assert read_affinity(prefill="0-3", decode="1").threads() == 4


def test_fewer_cores_than_threads() -> None:
    asked = read_affinity("0-3", decode="1")
    check_count(asked, ["prefill"], 4)
    with pytest.raises(UsageError, match=r"2 threads on 1 core, 1 \(decode\)"):
        check_count(asked, ["prefill", "decode"], 2)


@pytest.mark.parametrize(
    ("threads", "best", "usable", "places"),
    [
        (2, (0, 1), (0, 1), [(0,), (1,)]),
        (1, (0,), (0,), []),
        (1, (0, 1), (0, 1), []),
        (3, (0, 1), (0, 1), []),
        (2, (0, 2), (0, 1, 2, 3), [(0,), (2,)]),
        (1, (0, 2), (0, 1, 2, 3), [(0, 2)]),
        (3, (0, 2), (0, 1, 2, 3), []),
    ],
)
def test_where_threads_stay_when_nobody_asks(
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    best: tuple[int, ...],
    usable: tuple[int, ...],
    places: list[tuple[int, ...]],
) -> None:
    monkeypatch.setattr(affinity, "best_cores", lambda allowed: best)
    assert default_places(threads, usable) == places


def test_spelling() -> None:
    assert spelled((0, 1, 2, 8)) == "0-2,8"
    assert spelled((5,)) == "5"
    assert spelled(()) == ""
