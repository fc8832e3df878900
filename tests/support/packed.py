"""The packed tensors of an archive, to compare archives by: whatever the source called them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hearth.runtime.archive.reader import open_archive

Tensor = tuple[int | None, tuple[int, ...], bytes]


def packed(archive: Path, tables: bool = True) -> Counter[Tensor]:
    """Layout, shape and bytes of each tensor; without `tables` only what the source's parameters became."""
    opened = open_archive(archive)
    data = opened.weights()
    return Counter(
        (entry.layout, entry.shape, bytes(data[entry.offset : entry.offset + entry.nbytes]))
        for entry in opened.weights_index.tensors
        if tables or entry.parameters
    )
