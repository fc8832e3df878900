"""Values are made when they are asked for, once; names are known before."""

from __future__ import annotations

import pytest

from hearth.runtime.lora.each_once import EachOnce


def test_each_value_is_made_once_when_it_is_asked_for() -> None:
    made: list[str] = []

    def make(name: str) -> int:
        made.append(name)
        if name == "bad":
            raise ValueError(name)
        return len(name)

    found = EachOnce(["one", "bad", "three"], make)
    assert list(found) == ["one", "bad", "three"] and len(found) == 3
    assert "bad" in found and "two" not in found and made == []
    assert found["three"] == found["three"] == 5
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            found["bad"]
    with pytest.raises(KeyError):
        found["two"]
    assert made == ["three", "bad", "bad"]
