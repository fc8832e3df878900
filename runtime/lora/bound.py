"""The adapters of an archive for one engine: each is read when it is asked for, and bound when it is first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hearth.runtime import native
from hearth.runtime.adapters import Adapter, AdapterUse
from hearth.runtime.archive import Archive
from hearth.runtime.lora.each_once import EachOnce
from hearth.runtime.lora.stored import StoredAdapter, bind_adapter, stored_adapters


@dataclass(frozen=True, eq=False)
class BoundAdapters:
    """ArchiveError archive.adapter for a damaged one, when it is asked for."""

    archive: Archive
    engine: native.Engine

    @cached_property
    def known(self) -> Mapping[str, Adapter]:
        """By name."""
        stored = self._stored
        return EachOnce(stored, lambda name: stored[name].adapter)

    def bound(self, use: AdapterUse | None) -> tuple[native.Adapter | None, float]:
        """What a run takes."""
        return (None, 1.0) if use is None else (self._ready[use.name], use.scale)

    @cached_property
    def _stored(self) -> Mapping[str, StoredAdapter]:
        return stored_adapters(self.archive)

    @cached_property
    def _ready(self) -> Mapping[str, native.Adapter]:
        stored = self._stored
        return EachOnce(stored, lambda name: bind_adapter(self.archive, self.engine, stored[name]))
