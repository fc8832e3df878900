"""What the header of a saved context says (schemas/FORMAT.md, saved contexts)."""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT_VERSION = 1


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter by name and scale, and the SHA-256 (hex) of its section."""

    name: str
    scale: float
    sha256: str


@dataclass(frozen=True)
class ReaderRun:
    """So many tokens that follow each other were read with this adapter, or with none."""

    tokens: int
    adapter: SavedAdapter | None


@dataclass(frozen=True)
class SavedText:
    """A text that was being written: what was asked for, and the chooser's state (`ChooserState.plain`, msgpack)."""

    chooser: bytes
    constrained: bool
    max_tokens: int | None
    stop_ids: tuple[int, ...]
    stop: tuple[str, ...]
    logprobs: int | None
    full: str


@dataclass(frozen=True)
class SavedTalk:
    """A conversation: its messages and the tools it was told of, each a JSON text."""

    name: str
    messages: tuple[str, ...]
    tools: tuple[str, ...] | None


@dataclass(frozen=True)
class SavedContext:
    """All but keys and values: `layout` says how those are packed, `archive` is the fingerprint."""

    hearth: str
    archive: str
    layout: str
    tokens: tuple[int, ...]
    readers: tuple[ReaderRun, ...]
    adapter: SavedAdapter | None
    text: SavedText | None
    talk: SavedTalk | None
