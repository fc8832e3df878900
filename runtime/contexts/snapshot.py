"""A snapshot: the first n tokens of a session with their keys and values, from which sessions go on to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.contexts.kv_strips import pack, packed_nbytes, unpack
from hearth.schemas.errors import InputError, ResourceError, UsageError
from hearth.schemas.kv_layout import KVLayout

if TYPE_CHECKING:
    from hearth.runtime.session import Session


@dataclass(frozen=True, eq=False)
class Piece:
    """Keys and values of the positions `held` as kv_strips packs them: u8[nbytes], never written, perhaps a file's."""

    held: range
    packed: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a session of an archive (`fingerprint`) holds after reading `tokens`, each with its reader.

    The pieces follow each other without gaps; they may overlap, and reach beyond the tokens.
    """

    fingerprint: str
    layout: KVLayout
    tokens: tuple[int, ...]
    readers: tuple[AdapterUse | None, ...]
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values."""
        return sum(piece.packed.nbytes for piece in self.pieces)

    def first(self, count: int) -> Snapshot:
        """The first `count` tokens, over the same memory."""
        if not 0 <= count <= len(self.tokens):
            raise InputError(
                "input.position",
                f"the first {count} tokens of a snapshot",
                expected=f"0 to {len(self.tokens)}, the tokens that it holds",
            )
        return replace(self, tokens=self.tokens[:count], readers=self.readers[:count])

    def restore_into(self, session: Session[Any]) -> None:
        """`session.restore(self)`."""
        session.restore(self)

    def check_is_of(self, fingerprint: str) -> None:
        """UsageError `arguments.snapshot` for a model of another archive."""
        if fingerprint != self.fingerprint:
            raise UsageError(
                "arguments.snapshot",
                f"the snapshot is of the archive {self.fingerprint[:16]}, the model of {fingerprint[:16]}",
                expected="sessions of the model that it was taken of",
            )

    def copy_into(self, region: NDArray[np.uint8]) -> None:
        """Put the tokens' keys and values where a state of the layout has them."""
        for piece in self.pieces:
            end = min(piece.held.stop, len(self.tokens))
            if end > piece.held.start:
                unpack(self.layout, piece.packed, piece.held, end, region)


def take(
    fingerprint: str,
    layout: KVLayout,
    region: NDArray[np.uint8],
    tokens: tuple[int, ...],
    readers: tuple[AdapterUse | None, ...],
) -> Snapshot:
    """The snapshot of a state that has read these tokens. ResourceError `resource.memory` where there is none."""
    piece = take_piece(layout, region, 0, len(tokens))
    return Snapshot(fingerprint, layout, tokens, readers, (piece,))


def take_piece(layout: KVLayout, region: NDArray[np.uint8], start: int, end: int) -> Piece:
    """A copy of positions start..end - 1 of a state."""
    try:
        packed = pack(layout, region, start, end)
    except MemoryError:
        nbytes = packed_nbytes(layout, start, end)
        raise ResourceError(
            "resource.memory",
            f"there is no memory for a copy of {nbytes:,} bytes of keys and values",
            remedy="close other sessions",
        ) from None
    packed.flags.writeable = False
    return Piece(range(start, end), packed)
