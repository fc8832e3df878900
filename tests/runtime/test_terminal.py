"""Numbers as people read them, columns that line up."""

from __future__ import annotations

import pytest

from hearth.runtime.commands.terminal import duration, rate, size, table


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1536, "1.5 KB"), (934_480_022, "934.5 MB"), (5e15, "5000.0 TB")],
)
def test_size(nbytes: float, text: str) -> None:
    assert size(nbytes) == text


def test_duration_and_rate() -> None:
    assert (duration(0.0123), duration(1.5)) == ("12.3 ms", "1.50 s")
    assert (rate(20.04), rate(None)) == ("20.0 tokens/s", "-")


def test_table() -> None:
    assert (
        table([("name", "bytes"), ("a", "10"), ("bcdef", "9")])
        == "name   bytes\na         10\nbcdef      9"
    )
    assert table([]) == ""
