"""A stop string ends the text at the same place however the text is cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearth.runtime.text.stop_strings import StopStrings

STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


def run(stops: Sequence[str], pieces: Sequence[str]) -> tuple[str, bool]:
    stream, text = StopStrings(stops), ""
    for piece in pieces:
        given_out, found = stream.push(piece)
        text += given_out
        if found:
            return text, True
    return text + stream.flush(), False


def meaning(stops: Sequence[str], text: str) -> tuple[str, bool]:
    """The definition: the shortest beginning of the text that ends in a stop, without the longest such stop."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(stops=STOPS, pieces=st.lists(st.text("abc", max_size=3), max_size=8))
def test_any_cut_gives_the_definition(stops: list[str], pieces: list[str]) -> None:
    assert run(stops, pieces) == meaning(stops, "".join(pieces))


@pytest.mark.parametrize(
    ("stops", "pieces", "given_out"),
    [
        (["\n\n"], ["a\n", "b"], ["a", "\nb"]),
        (["END"], ["the E", "N", "D x"], ["the ", "", ""]),
        (["END"], ["the E", "NX"], ["the ", "ENX"]),
        ([], ["a", "b"], ["a", "b"]),
        ([""], ["a"], ["a"]),
    ],
)
def test_only_what_may_begin_a_stop_is_held(
    stops: list[str], pieces: list[str], given_out: list[str]
) -> None:
    stream = StopStrings(stops)
    assert [stream.push(piece)[0] for piece in pieces] == given_out
