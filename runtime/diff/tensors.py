"""Two weights sections, tensor by tensor in bounded memory: codes, scales, and what they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.archive.rows import StoredRows, batch_rows, packed_rows, rows_of
from hearth.runtime.diff.findings import Change, PartChange, State, TensorDiff, ValueChange
from hearth.schemas.weights_index import TensorEntry, WeightsIndex

CHUNK_NBYTES = 16 << 20
FORM = ("layout", "shape", "group", "paired")
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Weights:
    """A weights section and what lies in it."""

    data: memoryview
    index: WeightsIndex

    def tensors(self) -> dict[str, TensorEntry]:
        return {tensor.name: tensor for tensor in self.index.tensors}

    def bytes_of(self, entry: TensorEntry) -> NDArray[np.uint8]:
        view = np.frombuffer(self.data, np.uint8)
        return view[entry.offset : entry.offset + entry.nbytes]


def tensor_diffs(a: Weights, b: Weights, advance: Advance) -> Iterator[TensorDiff]:
    """Those that differ, A's in their order, then those that only B has. `advance` hears of A's bytes."""
    ours, theirs = a.tensors(), b.tensors()
    for name, entry in ours.items():
        other = theirs.get(name)
        if other is None:
            yield TensorDiff(name, State.REMOVED)
        elif form_changes(entry, other) or not _same(a.bytes_of(entry), b.bytes_of(other)):
            yield tensor_diff((a, entry), (b, other))
        advance(entry.nbytes)
    yield from (TensorDiff(name, State.ADDED) for name in theirs if name not in ours)


def form_changes(a: TensorEntry, b: TensorEntry) -> tuple[Change, ...]:
    """What the index says of two tensors, but their places."""
    return tuple(
        Change(name, _word(getattr(a, name)), _word(getattr(b, name)))
        for name in FORM
        if getattr(a, name) != getattr(b, name)
    )


def _word(value: Any) -> Any:
    """Layouts by their names; a plain array has none."""
    if hasattr(value, "name"):
        return value.name.lower()
    return list(value) if isinstance(value, tuple) else "plain" if value is None else value


def _same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    if a.size != b.size:
        return False
    starts = range(0, a.size, CHUNK_NBYTES)
    return all(
        np.array_equal(a[start : start + CHUNK_NBYTES], b[start : start + CHUNK_NBYTES])
        for start in starts
    )


def tensor_diff(a: tuple[Weights, TensorEntry], b: tuple[Weights, TensorEntry]) -> TensorDiff:
    """Rows of both side by side; numbers of one kind only where both are stored alike."""
    (_, one), (_, other) = a, b
    form = form_changes(one, other)
    if one.shape != other.shape:
        return TensorDiff(one.name, State.CHANGED, form)
    alike = (one.layout, one.group) == (other.layout, other.group)
    tally = Tally()
    try:
        for ours, theirs in zip(_rows(*a), _rows(*b), strict=True):
            tally.add(ours, theirs, alike)
    except ValueError:  # the index gives it another size than its layout has
        return TensorDiff(one.name, State.CHANGED, form)
    parts = tuple(part.result() for part in tally.parts.values() if part.changed)
    return TensorDiff(one.name, State.CHANGED, form, parts, tally.values())


def _rows(weights: Weights, entry: TensorEntry) -> Iterator[StoredRows]:
    n, k = rows_of(entry.shape)
    step, data = batch_rows(k), weights.bytes_of(entry)
    for start in range(0, n if k else 0, step):
        yield packed_rows(data, entry, start, min(start + step, n))


@dataclass
class PartTally:
    """Differences of one kind of number, counted over batches."""

    name: str
    changed: int = 0
    total: int = 0
    largest: float = 0.0
    relative: float = 0.0

    def add(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        """Numbers at the same places."""
        places = np.nonzero(_bits(a) != _bits(b))
        self.total += a.size
        self.changed += len(places[0])
        if len(places[0]):
            one, other = (each[places].astype(np.float64) for each in (a, b))
            with np.errstate(invalid="ignore", divide="ignore"):
                steps = np.abs(one - other)
                larger = np.maximum(np.abs(one), np.abs(other))
                relative = np.where(larger > 0, steps / larger, 0.0)
            steps, relative = _finite(steps), _finite(relative)
            self.largest = max(self.largest, float(steps.max()))
            self.relative = max(self.relative, float(relative.max()))

    def result(self) -> PartChange:
        return PartChange(self.name, self.changed, self.total, self.largest, self.relative)


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Floats as integers, so that NaN equals itself and 0 differs from -0."""
    kind = {4: np.uint32, 2: np.uint16}.get(values.dtype.itemsize)
    contiguous = np.ascontiguousarray(values)
    return contiguous if kind is None else contiguous.view(kind)


@dataclass
class Tally:
    """All kinds of numbers of a tensor, and what they stand for."""

    parts: dict[str, PartTally] = field(default_factory=dict)
    largest: float = 0.0
    squares: float = 0.0
    own: float = 0.0
    count: int = 0

    def add(self, a: StoredRows, b: StoredRows, alike: bool) -> None:
        """One batch of rows."""
        if alike:
            levels = () if self.count else _levels(a, b)  # the same in every batch
            for name, one, other in (*_pairs(a, b), *levels):
                self.parts.setdefault(name, PartTally(name)).add(one, other)
        found = sums(a.values(), b.values())
        if not all(
            map(math.isfinite, found)
        ):  # what is no weight: NaN counts as 0, infinity as the largest f32
            found = sums(*(_finite(each.values().astype(np.float64)) for each in (a, b)))
        largest, squares, own = found
        self.largest = max(self.largest, largest)
        self.squares += squares
        self.own += own
        self.count += a.codes.size

    def values(self) -> ValueChange:
        count = max(self.count, 1)
        rms, own = (self.squares / count) ** 0.5, (self.own / count) ** 0.5
        return ValueChange(self.largest, rms, rms / own if own else float(rms > 0))


def sums(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float, float]:
    """The largest difference, the sum of squared differences, the sum of a's squares."""
    with np.errstate(all="ignore"):
        steps = a - b
        largest = max(float(steps.max(initial=0)), -float(steps.min(initial=0)))
        return largest, float(np.vdot(steps, steps)), float(np.vdot(a, a))


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    most = float(np.finfo(np.float32).max)
    return np.asarray(np.nan_to_num(values, posinf=most, neginf=-most), np.float64)


def _levels(a: StoredRows, b: StoredRows) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    if a.table is not None and b.table is not None:
        yield "levels", a.table, b.table


def _pairs(a: StoredRows, b: StoredRows) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    codes = "values" if a.scales is None else "codes"
    named = {
        codes: (a.codes, b.codes),
        "multipliers": (a.multipliers, b.multipliers),
        "scales": (a.scales, b.scales),
        "zero points": (a.zeros, b.zeros),
    }
    for name, (one, other) in named.items():
        if one is not None and other is not None:
            yield name, one, other
