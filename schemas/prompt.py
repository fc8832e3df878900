"""A prompt whose keys and values lie in the archive (schemas/FORMAT.md, sections `prompt` and `prompt.kv`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """What texts that begin with `tokens` need not read again.

    `text` is what was given to be read, `tokens` what of it all prompts share that begin so. `layout` names how
    section `prompt.kv` holds their keys and values, `isa` whose kernels made them where those of others give
    other bits (None: all give the same).
    """

    text: str
    tokens: tuple[int, ...]
    layout: str
    isa: str | None
