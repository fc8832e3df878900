"""A full context slides: its first tokens and its newest half are read again, as a fresh session would read them.

The first tokens stay since attention leans on them whatever they say ("attention sinks", Xiao et al. 2023,
https://arxiv.org/abs/2309.17453); unlike there, keys and values are computed anew, so that what comes out is
exactly what the tokens that were kept give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hearth.runtime.generation.writing import Full
from hearth.runtime.session import Logits

SINKS = 4


class Reader(Protocol):
    """What sliding needs of a session."""

    @property
    def context(self) -> int: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
    def rewind(self, position: int) -> None: ...
    def shared(self, ids: Sequence[int]) -> int: ...
    def prefill(
        self, ids: Sequence[int], *, between: Callable[[], None] | None = None
    ) -> Logits: ...


def slid(tokens: Sequence[int], context: int) -> list[int]:
    """The first tokens (4, at most a quarter of the context) and the newest half of a context."""
    sinks = min(SINKS, context // 4)
    newest = max(context // 2, 1)
    if len(tokens) <= sinks + newest:
        return list(tokens)
    return [*tokens[:sinks], *tokens[-newest:]]


def fitted(tokens: Sequence[int], context: int, full: Full) -> list[int]:
    """A prompt as it is read: `slid` where it is longer than the context and may slide."""
    if full is Full.SLIDE and len(tokens) > context:
        return slid(tokens, context)
    return list(tokens)


def seen(prompt: Sequence[int], answer: Sequence[int], context: int, full: Full) -> list[int]:
    """What a session holds that has read a prompt and then an answer token by token."""
    held = fitted(prompt, context, full)
    for token in answer:
        if len(held) == context and full is Full.SLIDE:
            held = slid(held, context)
        held.append(token)
    return held


def rewound(session: Reader, tokens: Sequence[int]) -> list[int]:
    """Forget what differs from these tokens; those that are to be read."""
    shared = session.shared(tokens)
    session.rewind(shared)
    return list(tokens[shared:])


def slide(session: Reader, between: Callable[[], None] | None = None) -> None:
    """Make room in a full session. Where it is interrupted, the session holds the first tokens alone."""
    rest = rewound(session, slid(session.tokens, session.context))
    if rest:
        session.prefill(rest, between=between)
