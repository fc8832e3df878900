"""Prompt lookup: what followed the last few tokens where they stood before in the text (Saxena, 2023).

It costs nothing, and is right where a text repeats itself or its prompt: summaries, corrections, code.
"""

from __future__ import annotations

from collections.abc import Sequence

SIZES = (3, 2)  # tokens that must be the same; the longer match is tried first


class PromptLookup:
    """Remembers where each group of tokens stood last."""

    def __init__(self, sizes: Sequence[int] = SIZES) -> None:
        self._sizes = tuple(sizes)
        self._ends: dict[tuple[int, ...], int] = {}
        self._seen = 0

    def guess(self, tokens: Sequence[int], count: int) -> Sequence[int]:
        """What followed, up to the end of the text."""
        for end in range(self._seen + 1, len(tokens)):  # groups that something follows
            for size in self._sizes:
                self._ends[tuple(tokens[max(end - size, 0) : end])] = end
        self._seen = max(len(tokens) - 1, 0)
        for size in self._sizes:
            end = self._ends.get(tuple(tokens[-size:]), len(tokens))
            if end < len(tokens):
                return tokens[end : end + count]
        return ()

    def forget(self) -> None:
        """Another text."""
        self._ends.clear()
        self._seen = 0
