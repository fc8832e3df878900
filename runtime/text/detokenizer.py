"""Ids to text piece by piece: the pieces together are the text of all ids, and none splits a character.

How a token reads depends on its neighbours (the first word of a text loses its leading space, the bytes of
a character come in several tokens). So a token is read in a window of those before it, and its text is
what the window gains by it, given out once the window ends with a whole character.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what a decoder writes for bytes that are no character
CONTEXT = 8  # tokens of a prompt that are enough to read the next one
MOST_HELD = 16  # tokens whose text is held back: reading all of a long window again and again takes for ever
BYTES = 4  # of a character at most, and so of tokens that it comes in


class Detokenizer:
    """One text being written. `decode` turns ids into text; `before` are ids already read (a prompt's).

    Where ids hold bytes that never become a character, the text has replacement characters in their
    place; a valid character once given out is not taken back by broken bytes after it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int] = ()) -> None:
        self._decode = decode
        # Ids whose text is given out, then `_pending` ids whose text is held back.
        self._window, self._given = _last_window(decode, before)
        self._pending = 0

    def copy(self) -> Detokenizer:
        """Another that goes on from here."""
        other = copy(self)
        other._window = list(self._window)
        return other

    def push(self, token: int) -> str:
        """The text that is complete with this token: often a word, sometimes nothing."""
        self._window.append(token)
        self._pending += 1
        text = self._decode(self._window)
        if not text.endswith(REPLACEMENT):
            return self._give(text)
        return self._shorten(text) if self._pending >= MOST_HELD else ""

    def flush(self) -> str:
        """What was held back for bytes that never came."""
        return self._give(self._decode(self._window)) if self._pending else ""

    def _give(self, text: str) -> str:
        broken = not text.startswith(self._given)  # bytes that also spoil what was given out
        piece = self._decode(self._fresh()) if broken else text[len(self._given) :]
        self._advance(text)
        return piece

    def _shorten(self, text: str) -> str:
        """Bytes that are no character go on and on: all but the last of them, which may yet become one."""
        known = text.startswith(self._given)
        piece = text[len(self._given) :] if known else self._decode(self._fresh())
        self._window = self._window[-BYTES:]
        self._given = self._decode(self._window)
        self._pending = 0
        if self._given.endswith(REPLACEMENT):
            piece, self._given = piece[:-1], self._given[:-1]
            self._pending = BYTES
        return piece

    def _fresh(self) -> list[int]:
        return self._window[-self._pending :]

    def _advance(self, text: str) -> None:
        """Drop the old tokens where the new ones alone make a window with text in it."""
        fresh = self._fresh()
        alone = self._decode(fresh)
        if alone:
            self._window, self._given = fresh, alone
        else:
            self._given = text
        self._pending = 0


def _last_window(
    decode: Callable[[Sequence[int]], str], before: Sequence[int]
) -> tuple[list[int], str]:
    """The last ids and their text: not empty and not starting inside a character, where possible."""
    size = CONTEXT
    while True:
        window = list(before[-size:])
        text = decode(window) if window else ""
        if size >= len(before) or (text and not text.startswith(REPLACEMENT)):
            return window, text
        size *= 2


def spell_ids(ids: Sequence[int]) -> str:
    """The decoder that shows ids: each followed by a space."""
    return "".join(f"{token} " for token in ids)
