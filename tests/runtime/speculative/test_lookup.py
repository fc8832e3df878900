"""What followed the last tokens where they stood before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hearth.runtime.speculative.lookup import PromptLookup


def test_the_longest_match_and_of_those_the_last() -> None:
    text = [1, 2, 3, 9, 7, 2, 3, 8, 1, 2, 3]
    assert PromptLookup().guess(text, 2) == [9, 7]
    assert PromptLookup(sizes=(2,)).guess(text, 9) == [8, 1, 2, 3]
    assert PromptLookup(sizes=(1,)).guess([5, 6, 5, 7, 5], 1) == [7]


def test_nothing_where_nothing_repeats() -> None:
    for text in ([], [1], [1, 2], [1, 2, 3, 4]):
        assert not PromptLookup().guess(text, 4)


def test_another_text() -> None:
    lookup = PromptLookup()
    assert lookup.guess([1, 2, 5, 1, 2], 1) == [5]
    lookup.forget()
    assert not lookup.guess([1, 2], 1)


@given(text=st.lists(st.integers(0, 3), min_size=1, max_size=40), cuts=st.sets(st.integers(1, 39)))
def test_calls_on_the_way_change_nothing(text: list[int], cuts: set[int]) -> None:
    lookup = PromptLookup()
    for cut in sorted(cuts):
        lookup.guess(text[:cut], 3)
    grown = lookup.guess(text, 3)
    assert grown == PromptLookup().guess(text, 3)
