"""Stop strings in a stream of pieces: a stop may span pieces, so what could begin one is held back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy


class StopStrings:
    """Ends a text before the stop that is complete first (of those, the longest), however it is cut in pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def copy(self) -> StopStrings:
        """Another that goes on from here."""
        return copy(self)

    def push(self, piece: str) -> tuple[str, bool]:
        """The text that is safe to give out, and whether a stop was found (then nothing comes after)."""
        text = self._held + piece
        places = [(text.find(stop), stop) for stop in self._stops]
        found = [(start + len(stop), start) for start, stop in places if start >= 0]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        keep = self._open_length(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back, when the stream ends without a stop."""
        held, self._held = self._held, ""
        return held

    def _open_length(self, text: str) -> int:
        """Length of the longest end of the text that begins a stop."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


def before_stop(text: str, stops: Sequence[str]) -> str:
    """A whole text up to where one of them ends it."""
    reader = StopStrings(stops)
    piece, stopped = reader.push(text)
    return piece if stopped else piece + reader.flush()
