"""A coded weight in a file of its own: written once, row batch by row batch, and read in row ranges."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32, QuantisedRows

I8 = NDArray[np.int8]


@dataclass(frozen=True)
class Shape:
    """What a file holds: codes i8[n, k], then multipliers i8[n, groups], scales f32[n], levels i8[levels]."""

    n: int
    k: int
    bits: int
    group: int
    levels: int = 0

    @property
    def groups(self) -> int:
        """Multipliers of a row."""
        return -(-self.k // self.group) if self.group else 0

    @property
    def nbytes(self) -> int:
        """The bytes of the file."""
        return self.n * (self.k + self.groups + 4) + self.levels


@dataclass(frozen=True, eq=False)
class CodedFile:
    """A QuantisedSource over such a file."""

    path: Path
    form: Shape
    sha256: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.form.n, self.form.k)

    @property
    def bits(self) -> int:
        return self.form.bits

    @property
    def group(self) -> int:
        return self.form.group

    @property
    def tabled(self) -> bool:
        return self.form.levels > 0

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        """Rows start .. stop."""
        form, count = self.form, stop - start
        with self.path.open("rb") as file:

            def part(base: int, width: int) -> NDArray[np.uint8]:
                file.seek(base + start * width)
                return np.fromfile(file, np.uint8, count * width)

            at = form.n * form.k
            codes = part(0, form.k).view(np.int8).reshape(count, form.k)
            multipliers = part(at, form.groups).view(np.int8).reshape(count, form.groups)
            at += form.n * form.groups
            scale = part(at, 4).view(np.float32)
            file.seek(at + 4 * form.n)
            table = np.fromfile(file, np.int8, form.levels)
        return QuantisedRows(
            codes,
            multipliers if form.group else None,
            scale,
            form.group,
            table if form.levels else None,
        )

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return {"file": self.path.name, "sha256": self.sha256, **asdict(self.form)}

    @classmethod
    def of(cls, folder: Path, record: dict[str, Any]) -> Self:
        """The file that a record describes."""
        form = {key: value for key, value in record.items() if key not in ("file", "sha256")}
        return cls(folder / record["file"], Shape(**form), record["sha256"])

    def whole(self) -> bool:
        """Whether the file is there as it was written."""
        return file_hash(self.path) == self.sha256


def file_hash(path: Path) -> str | None:
    """The SHA-256 (hex) of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def write_coded(path: Path, bits: int, batches: Iterable[QuantisedRows]) -> CodedFile:
    """Writes all rows of a weight; the file has its name when it is whole."""
    digest = hashlib.sha256()
    rest: list[tuple[I8 | None, F32]] = []
    first: QuantisedRows | None = None
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:

        def write(array: NDArray[Any]) -> None:
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            file.write(data)
            digest.update(data)

        for rows in batches:
            first = first or rows
            write(rows.codes)
            rest.append((rows.multipliers, rows.scale))
        for multipliers, _ in rest:
            if multipliers is not None:
                write(multipliers)
        for _, scale in rest:
            write(scale)
        if first is None:
            raise ValueError(f"{path.name}: no rows")
        if first.table is not None:
            write(first.table)
    os.replace(beside, path)
    n = sum(len(scale) for _, scale in rest)
    levels = 0 if first.table is None else first.table.size
    form = Shape(n, first.codes.shape[1], bits, first.group, levels)
    return CodedFile(path, form, digest.hexdigest())


@dataclass(frozen=True, eq=False)
class Dequantised:
    """The floats that a coded weight stands for."""

    source: CodedFile

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def stored(self) -> str:
        return "f32"

    def rows(self, start: int, stop: int) -> F32:
        return self.source.quantised(start, stop).dequantise()
