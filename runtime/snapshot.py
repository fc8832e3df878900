"""A snapshot: the first n tokens of a session with their keys and values, from which sessions go on to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.kv_strips import pack, packed_nbytes, unpack
from hearth.schemas.errors import InputError, ResourceError, UsageError
from hearth.schemas.kv_layout import KVLayout

if TYPE_CHECKING:
    from hearth.runtime.session import Session


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a session of an archive (`fingerprint`) holds after reading `tokens`, each with its reader.

    `packed` is u8[packed_nbytes]: keys and values of the `held` positions, at least those of the tokens.
    It is never written, and may be a file's.
    """

    fingerprint: str
    layout: KVLayout
    tokens: tuple[int, ...]
    readers: tuple[AdapterUse | None, ...]
    packed: NDArray[np.uint8]
    held: int

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values."""
        return self.packed.nbytes

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
        unpack(self.layout, self.packed, len(self.tokens), self.held, region)


def take(
    fingerprint: str,
    layout: KVLayout,
    region: NDArray[np.uint8],
    tokens: tuple[int, ...],
    readers: tuple[AdapterUse | None, ...],
) -> Snapshot:
    """The snapshot of a state that has read these tokens. ResourceError `resource.memory` where there is none."""
    try:
        packed = pack(layout, region, len(tokens))
    except MemoryError:
        nbytes = packed_nbytes(layout, len(tokens))
        raise ResourceError(
            "resource.memory",
            f"there is no memory for a copy of {nbytes:,} bytes of keys and values",
            remedy="close other sessions",
        ) from None
    packed.flags.writeable = False
    return Snapshot(fingerprint, layout, tokens, readers, packed, len(tokens))
