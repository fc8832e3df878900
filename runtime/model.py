"""A loaded model: one mapping of the weights, one engine, any number of sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.archive import Archive
from hearth.runtime.session import Logits, Session
from hearth.schemas.errors import ResourceError
from hearth.schemas.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Model:
    """Made by `load`. Sessions may be used from several threads; the engine runs one call at a time."""

    archive: Archive
    engine: native.Engine
    entry_numbers: Mapping[str, int]

    @property
    def manifest(self) -> Manifest:
        """What the archive is."""
        return self.archive.manifest

    @property
    def vocab(self) -> int:
        """V, the number of logits."""
        return self.manifest.dims.vocab

    @property
    def context(self) -> int:
        """S, the tokens a session can hold."""
        return self.manifest.context

    @property
    def chunk(self) -> int:
        """Tokens one prefill step takes."""
        return self.manifest.chunk

    @property
    def threads(self) -> int:
        """Threads the engine computes with."""
        return self.engine.threads

    @property
    def isa(self) -> str:
        """The highest instruction set in use."""
        return self.engine.isa

    def session(self, chunk: int | None = None) -> Session[native.State]:
        """A fresh session; `chunk` bounds the tokens of one prefill step (and changes no result)."""
        return Session(self, chunk)

    def new_state(self) -> native.State:
        """A zeroed KV region. Its pages take memory as positions are written."""
        nbytes = self.archive.program.kv_nbytes
        try:
            return native.State(nbytes)
        except MemoryError:
            raise ResourceError(
                "resource.memory",
                f"there is no memory for a KV cache of {nbytes:,} bytes",
                remedy="close other sessions, or compile with a smaller --context or --kv int8",
            ) from None

    def run(
        self,
        state: native.State,
        entry: str,
        tokens: NDArray[np.int32],
        position: int,
        logits: Logits,
    ) -> None:
        """Run an entry; `Session` keeps the position and checks the ids."""
        self.engine.run(state, self.entry_numbers[entry], tokens, position, logits)
