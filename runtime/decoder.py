"""A loaded decoder: what sessions of one archive run on (`Executor`), with its adapters and what was read before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.adapters import Adapter, AdapterUse, check_known
from hearth.runtime.binding import new_state, row_limit, run_entry, run_segments
from hearth.runtime.contexts.prefix_cache import PrefixCache
from hearth.runtime.contexts.snapshot import Snapshot
from hearth.runtime.loaded import Loaded
from hearth.runtime.lora.bound import BoundAdapters
from hearth.runtime.session import Logits, Segment, Session
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.program import Rows

PREFIX_NBYTES = 256 << 20  # of a model's own prefix cache


@dataclass
class Default:
    """What new sessions of a model use."""

    adapter: AdapterUse | None = None


@dataclass(frozen=True, eq=False)
class Decoder(Loaded):
    """One mapping of the weights, one engine, any number of sessions, whose runs it does one at a time."""

    default: Default = field(default_factory=Default)

    def session(
        self, chunk: int | None = None, adapter: AdapterUse | None = None
    ) -> Session[native.State]:
        """A fresh session; `chunk` bounds the tokens of one prefill step (and changes no result).

        It uses `adapter`, or what `use_adapter` has said last; `session.use_adapter(None)` for none.
        """
        return Session(self, chunk, adapter or self.default.adapter)

    @property
    def vocab(self) -> int:
        """V, the number of logits."""
        dims = self.manifest.dims
        assert dims is not None  # consistency.py: a decoder has them
        return dims.vocab

    @property
    def chunk(self) -> int:
        """Tokens one prefill step takes."""
        return self.manifest.chunk

    @property
    def logit_rows(self) -> int:
        """Rows of logits that one run gives at most."""
        return max(row_limit(self.archive.program.entries["prefill"], Rows.R), 1)

    @property
    def segments(self) -> int:
        """Sessions that one run takes at most."""
        return native.MAX_SEGMENTS

    @property
    def fingerprint(self) -> str:
        """Of all that decides the results: snapshots and saved contexts are of archives with this one."""
        return self.archive.fingerprint

    @property
    def kv_layout(self) -> KVLayout:
        """Where keys and values lie in a state."""
        return self.archive.kv_layout

    def new_state(self) -> native.State:
        """A zeroed KV region. Its pages take memory as positions are written."""
        return new_state(self.archive)

    def region(self, state: native.State) -> NDArray[np.uint8]:
        """The memory of a state, u8[kv_nbytes]; not to be touched while a run reads or writes it."""
        return state.array()

    def run(
        self,
        state: native.State,
        entry: str,
        tokens: NDArray[np.int32],
        position: int,
        logits: Logits,
        adapter: AdapterUse | None = None,
    ) -> None:
        """Run an entry; `Session` keeps the position and checks the ids."""
        number = self.entry_numbers[entry]
        place, used = (len(tokens), position), self._lora.bound(adapter)
        run_entry(self.archive, self.engine, number, state, place, [tokens], [logits], used)

    def run_segments(
        self,
        segments: Sequence[Segment[native.State]],
        tokens: NDArray[np.int32],
        rows: Logits,
        entry: str = "prefill",
    ) -> None:
        """Run an entry on rows of several states, for the last rows of each; the caller keeps positions, checks ids."""
        number = self.entry_numbers[entry]
        given = [(*each[:4], *self._lora.bound(each.adapter)) for each in segments]
        run_segments(self.archive, self.engine, number, given, [tokens], [rows])

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The adapters of the archive by name (`hearth lora add`), each read when it is asked for.

        Then ArchiveError archive.adapter for a damaged one.
        """
        return self._lora.known

    @cached_property
    def _lora(self) -> BoundAdapters:
        return BoundAdapters(self.archive, self.engine)

    def bind_adapter(self, use: AdapterUse | None) -> None:
        """Make an adapter ready, which its first run would do: some milliseconds, and what is wrong with it is said.

        UsageError `arguments.adapter` for a name that the archive does not have, ArchiveError archive.adapter for a
        damaged one.
        """
        check_known(use, self.adapters)
        self._lora.bound(use)

    def use_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """What sessions made from now on use unless told otherwise; None: no adapter.

        UsageError `arguments.adapter` for a name that the archive does not have.
        """
        use = None if name is None else AdapterUse(name, scale)
        check_known(use, self.adapters)
        self.default.adapter = use

    @cached_property
    def prefixes(self) -> PrefixCache:
        """Keys and values of prompts that were read before; `prefixes.nbytes` may be set."""
        return PrefixCache(PREFIX_NBYTES, self.pinned)

    @cached_property
    def prompt(self) -> Snapshot | None:
        """The prompt that was compiled into the archive (`hearth compile --prompt-cache`)."""
        from hearth.runtime.contexts.prompt import read_prompt

        return read_prompt(self)

    @property
    def pinned(self) -> tuple[Snapshot, ...]:
        """What each prefix cache of the model begins with."""
        return () if self.prompt is None else (self.prompt,)
