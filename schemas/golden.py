"""Golden vectors: inputs with the results they gave when the archive was made, so that any machine can replay them.

Hashes are SHA-256 in hex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from hearth.schemas.bounds import Bounds


@dataclass(frozen=True)
class Ranked:
    """One token and its logit."""

    id: int
    logit: float


@dataclass(frozen=True)
class TokensCase:
    """What a decoder says after `ids`, and how it goes on greedily.

    `logits` is the SHA-256 of the f32[V] after the prompt, `best` its five largest (equal ones by id).
    `continuation` are the best tokens one after the other, `continued` the SHA-256 over the f32[V] after each of them.
    """

    ids: tuple[int, ...]
    logits: str
    best: tuple[Ranked, ...]
    continuation: tuple[int, ...]
    continued: str


@dataclass(frozen=True)
class Numbers:
    """An array of numbers, little-endian: its SHA-256 and its first values."""

    shape: tuple[int, ...]
    sha256: str
    first: tuple[float, ...]


@dataclass(frozen=True)
class VectorCase:
    """What an encoder, or a decoder with a pooling, makes of `ids` (segment `types` beside them, none: all 0)."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    embedding: Numbers
    hidden: Numbers


@dataclass(frozen=True)
class DrawnPort:
    """An input that `seed` of its case stands for: dtype as numpy names it, and the shape that was drawn."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Sampled:
    """An output. `values` are up to 64 of it, evenly spaced from the first; `largest` is its largest magnitude.

    What is no number (text) has its hash alone.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    values: tuple[float, ...]
    largest: float


@dataclass(frozen=True)
class GraphCase:
    """What a graph makes of drawn inputs.

    `tolerance` 0: every bit counts. Else another engine computed a part, whose results differ between machines: each
    value may differ by tolerance * `largest` of its output.
    """

    seed: int
    inputs: Mapping[str, DrawnPort]
    outputs: Mapping[str, Sampled]
    tolerance: Annotated[float, Bounds(0)]


@dataclass(frozen=True)
class TextCase:
    """A text, its ids (with the tokens that the model's post-processor adds), and their text again."""

    text: str
    ids: tuple[int, ...]
    decoded: str


@dataclass(frozen=True)
class Turn:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True)
class ChatCase:
    """A chat as the template writes it, and the ids of that; a template that refuses it gives `error` alone (a code).

    The clock of the template stands at 2024-01-01 00:00.
    """

    turns: tuple[Turn, ...]
    add_generation_prompt: bool
    text: str
    ids: tuple[int, ...]
    error: str


@dataclass(frozen=True)
class Golden:
    """The section `golden`; what an archive's kind does not have is empty."""

    tokens: tuple[TokensCase, ...] = ()
    vectors: tuple[VectorCase, ...] = ()
    graphs: tuple[GraphCase, ...] = ()
    texts: tuple[TextCase, ...] = ()
    chats: tuple[ChatCase, ...] = ()
