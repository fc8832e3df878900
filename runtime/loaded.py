"""What every archive bound to the engine has: its facts, the engine's, and the parts that read texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from hearth.runtime import native
from hearth.runtime.archive import Archive
from hearth.runtime.text.instructions import Instructions, parse_instructions
from hearth.runtime.text.tokenizer import Tokenizer, parse_tokenizer
from hearth.schemas import sections
from hearth.schemas.errors import ArchiveError, InputError
from hearth.schemas.manifest import Manifest

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Loaded:
    """One mapping of the weights and one engine; what can be asked of it is the subclass's."""

    archive: Archive
    engine: native.Engine
    entry_numbers: Mapping[str, int]

    @property
    def manifest(self) -> Manifest:
        """What the archive is."""
        return self.archive.manifest

    @property
    def context(self) -> int:
        """S, the most tokens of a session or of a text."""
        return self.manifest.context

    @property
    def threads(self) -> int:
        """Threads the engine computes with."""
        return self.engine.threads

    @property
    def isa(self) -> str:
        """The highest instruction set in use."""
        return self.engine.isa

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts can be read; else token ids alone."""
        return sections.TOKENIZER in self.archive.entries

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Parsed on first use (0.4 s for a vocabulary of 150,000); cuts nothing off."""
        return self.new_tokenizer()

    @cached_property
    def cutting(self) -> Tokenizer:
        """Cuts texts at the context, as vectors need it."""
        return self.new_tokenizer().truncated(self.context)

    def new_tokenizer(self) -> Tokenizer:
        """A tokenizer of its own, which may be changed."""
        data = self.needed(self.part(sections.TOKENIZER), "tokenizer", "give token ids")
        return parse_tokenizer(data, self.part(sections.TOKENIZER_CONFIG))

    @cached_property
    def instructions(self) -> Instructions:
        """What may stand before texts that become vectors; ArchiveError `archive.instructions` where damaged."""
        content = self.part(sections.INSTRUCTIONS)
        try:
            return Instructions() if content is None else parse_instructions(content)
        except (ValueError, RecursionError) as error:
            raise ArchiveError(
                "archive.instructions",
                f"the archived instructions: {str(error)[:200]}",
                expected="those of a config_sentence_transformers.json",
                where=str(self.archive.path),
                remedy="compile the model again",
            ) from None

    def part(self, section: str) -> bytes | None:
        """An optional section's bytes."""
        return bytes(self.archive.section(section)) if section in self.archive.entries else None

    def needed(self, part: T | None, what: str, instead: str) -> T:
        """The part; InputError `input.not_in_archive` where the archive has none."""
        if part is None:
            raise InputError(
                "input.not_in_archive",
                f"this archive has no {what}",
                where=str(self.archive.path),
                remedy=f"compile a checkpoint that has a {what}, or {instead}",
            )
        return part
