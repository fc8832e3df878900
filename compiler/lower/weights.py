"""The weights region: every constant a program reads, packed once, in order of first use, 64-byte aligned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.tensors import AnySource, GroupedSource, QuantisedSource, read
from hearth.compiler.lower.blocks import ALIGN, Bytes, round_up
from hearth.compiler.lower.layouts import LAYOUTS
from hearth.schemas.commands import Layout


@dataclass(frozen=True)
class PackedTensor:
    """One constant at its place; `layout` None: a plain f32 array."""

    name: str
    offset: int
    nbytes: int
    source: AnySource
    layout: Layout | None
    paired: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def group(self) -> int:
        return group_of(self.source)

    def chunks(self) -> Iterator[Bytes]:
        """The packed bytes, `nbytes` of them, in bounded memory."""
        if self.layout is None:
            yield np.ascontiguousarray(_plain(self.source)).reshape(-1).view(np.uint8)
        else:
            yield from LAYOUTS[self.layout].chunks(self.source, self.paired)


def group_of(source: AnySource) -> int:
    """K-values per multiplier or scale; 0 where there are none."""
    return source.group if isinstance(source, QuantisedSource | GroupedSource) else 0


def _plain(source: AnySource) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if isinstance(source, QuantisedSource | GroupedSource):
        raise TypeError("vectors and tables are not quantised")
    return read(source)


def packed_nbytes(source: AnySource, layout: Layout | None, paired: bool) -> int:
    """Bytes of a constant in a layout."""
    if layout is None:
        return 4 * int(np.prod(source.shape, dtype=np.int64))
    n, k = source.shape
    return LAYOUTS[layout].nbytes(n, k, group_of(source), paired)


Key = tuple[Constant, Layout | None, bool]


@dataclass
class WeightTable:
    """Gives each (constant, layout, pairing) its place on first use."""

    tensors: dict[Key, PackedTensor] = field(default_factory=dict)
    nbytes: int = 0

    def place(
        self, constant: Constant, layout: Layout | None, paired: bool = False
    ) -> PackedTensor:
        """Where the constant lies; the same constant in the same form lies there once."""
        key = (constant, layout, paired)
        if key not in self.tensors:
            nbytes = packed_nbytes(constant.value, layout, paired)
            self.tensors[key] = PackedTensor(
                self._name(constant.name), self.nbytes, nbytes, constant.value, layout, paired
            )
            self.nbytes = round_up(self.nbytes + nbytes, ALIGN)
        return self.tensors[key]

    def in_order(self) -> tuple[PackedTensor, ...]:
        """All tensors by offset."""
        return tuple(self.tensors.values())

    def _name(self, name: str) -> str:
        """The constant's name, numbered where it is taken by another constant or form."""
        taken = {tensor.name for tensor in self.tensors.values()}
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}#{number}", number + 1
        return unique
