"""The prompt that was compiled into an archive, as a snapshot that sessions begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hearth.runtime.contexts.kv_strips import layout_hash, packed_nbytes
from hearth.runtime.contexts.snapshot import Piece, Snapshot
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.errors import ArchiveError
from hearth.schemas.prompt import Prompt

if TYPE_CHECKING:
    from hearth.runtime.decoder import Decoder


def read_prompt(decoder: Decoder) -> Snapshot | None:
    """The archive's prompt over the mapping itself; None where it has none, or one of other kernels' bits.

    ArchiveError `archive.inconsistent` where its parts do not fit each other.
    """
    found = described(decoder)
    if found is None or found.isa not in (None, decoder.isa):
        return None
    packed = np.frombuffer(decoder.archive.section(sections.PROMPT_KV), np.uint8)
    piece = Piece(range(len(found.tokens)), packed)
    readers = (None,) * len(found.tokens)
    return Snapshot(decoder.fingerprint, decoder.kv_layout, found.tokens, readers, (piece,))


def described(decoder: Decoder) -> Prompt | None:
    """What the archive says of its prompt, checked against what else it holds."""
    archive, where = decoder.archive, str(decoder.archive.path)
    if sections.PROMPT not in archive.entries:
        return None
    found = loads(Prompt, archive.section(sections.PROMPT), sections.PROMPT, where)
    if found.layout != layout_hash(decoder.kv_layout):
        return None  # of another version, which packs otherwise
    nbytes, count = archive.section(sections.PROMPT_KV).nbytes, len(found.tokens)
    wanted = packed_nbytes(decoder.kv_layout, 0, count)
    fits = 0 < count < decoder.context and max(found.tokens) < decoder.vocab
    if not fits or nbytes != wanted:
        raise ArchiveError(
            "archive.prompt",
            f"its compiled prompt has {count} tokens and {nbytes} bytes of keys and values",
            expected=f"{wanted} bytes of tokens that the model can read",
            where=where,
            remedy="compile the model again",
        )
    return found
