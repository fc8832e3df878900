"""A writer over logits handed in: what ends a text, and what its end gives back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hearth.runtime.generation.writing import Full, Request, Writer
from hearth.schemas.errors import InputError, UsageError

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(ids: Sequence[int]) -> str:
    return "".join(LETTERS[token] for token in ids)


def logits_for(token: int) -> np.ndarray:
    return np.eye(len(LETTERS), dtype=np.float32)[token]


def write(request: Request, text: str, room: int = 100) -> tuple[Writer, list[str]]:
    """The pieces while the greedy choices spell `text`; there is room for so many tokens."""
    writer, pieces = Writer(request, [0], letters), []
    for index, letter in enumerate(text):
        pieces.append(writer.push(logits_for(LETTERS.index(letter)), room=index < room))
        if writer.finish_reason:
            break
    return writer, pieces


def test_it_goes_on_until_something_ends_it() -> None:
    writer, pieces = write(Request(), "bcd")
    assert (pieces, writer.text, writer.tokens) == (["b", "c", "d"], "bcd", [1, 2, 3])
    assert [choice.token for choice in writer.choices] == writer.tokens
    assert writer.finish_reason is None
    writer.cancel()
    assert (writer.finish_reason, writer.tail()) == ("cancelled", "")


@pytest.mark.parametrize(
    ("request_", "text", "reason"),
    [
        (Request(max_tokens=3), "bcd", "length"),
        (Request(stop_ids=frozenset((3,))), "bc", "stop"),
        (Request(stop=("cd",)), "b", "stop"),
        (Request(stop=("dX", "d")), "bc", "stop"),
        (Request(max_tokens=3, stop_ids=frozenset((3,))), "bc", "stop"),
        (Request(max_tokens=3, stop=("def",)), "bcd", "length"),
    ],
)
def test_what_ends_a_text(request_: Request, text: str, reason: str) -> None:
    writer, pieces = write(request_, "bcdefgh")
    assert (writer.finish_reason, len(writer.tokens)) == (reason, 3)
    assert "".join(pieces) + writer.tail() == writer.text == text


def test_a_reason_once_given_stays() -> None:
    writer, _ = write(Request(max_tokens=1), "b")
    writer.cancel()
    assert writer.finish_reason == "length"


def test_a_full_context_ends_it_fails_or_is_somebody_elses_matter() -> None:
    writer, _ = write(Request(), "bcdefgh", room=2)
    assert (writer.text, writer.finish_reason) == ("bcd", "length")
    with pytest.raises(InputError) as refused:
        write(Request(full=Full.ERROR), "bcdefgh", room=2)
    assert refused.value.code == "input.context_full"
    assert write(Request(full=Full.ERROR, max_tokens=3), "bcdefgh", room=2)[0].text == "bcd"
    assert write(Request(full=Full.SLIDE), "bcdefgh", room=2)[0].text == "bcdefgh"


def test_logits_that_are_not_finite_are_an_error_of_this_text() -> None:
    writer = Writer(Request(), [0], letters)
    with pytest.raises(InputError, match="not finite"):
        writer.push(np.full(26, np.nan, np.float32), room=True)
    assert writer.finish_reason == "error"


def test_counts_out_of_range_are_refused() -> None:
    for fields, code in (({"max_tokens": 0}, "max_tokens"), ({"logprobs": -1}, "logprobs")):
        with pytest.raises(UsageError) as refused:
            Request(**fields)
        assert refused.value.code == f"arguments.{code}"
