"""Vectors of texts by a decoder that was compiled with a pooling: rows of its last layer, pooled in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.adapters import AdapterUse, check_known
from hearth.runtime.encoder import F32, HIDDEN, Text, encoded
from hearth.runtime.session import check_room, checked_chunk, checked_ids
from hearth.runtime.tokenizer import Encoded, Tokenizer
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import Embedding

if TYPE_CHECKING:
    from hearth.runtime.model import Model

F64 = NDArray[np.float64]
UNIT_EPS = 1e-12  # of torch.nn.functional.normalize


@dataclass(frozen=True, eq=False)
class DecoderVectors:
    """Made by `Model.vectors`; as an `Encoder` is used. May be used from several threads.

    A vector depends on its own text, the archive and the adapter alone, to the bit where the archive's kernels are
    exact: not on `chunk` (tokens of one step at most), threads or instruction set.
    """

    model: Model
    adapter: AdapterUse | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.model.manifest.embedding is None:
            raise UsageError(
                "arguments.pooling",
                "this decoder makes no vectors of texts",
                expected="an archive compiled with a pooling",
                where=str(self.model.archive.path),
                remedy="compile with --pooling last, or mean, cls, max",
            )
        check_known(self.adapter, self.model.adapters)
        checked_chunk(self.chunk, self.model.chunk)

    @property
    def embedding(self) -> Embedding:
        """How the vectors are made: pooling, normalisation, columns."""
        embedding = self.model.manifest.embedding
        assert embedding is not None  # refused at the beginning
        return embedding

    @property
    def columns(self) -> int:
        """E, the numbers of a vector."""
        return self.embedding.columns

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's; cuts nothing off."""
        return self.model.tokenizer

    def encode(self, text: Text) -> Encoded:
        """The ids of a text or of a pair, with the tokenizer's special tokens; texts are cut at the context.

        Ids are never cut: too many of them are InputError `input.context_full`.
        """
        found = encoded(text, self.model)
        ids = checked_ids(found.ids, self.model.vocab)
        check_room(0, len(ids), self.model.context)
        return found

    def embed(self, texts: str | Sequence[Text]) -> F32:
        """f32[n, E], a vector for each of the texts (one text alone: n is 1)."""
        given = [self.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        found = np.empty((len(given), self.columns), np.float32)
        state = self.model.new_state()
        for row, text in zip(found, given, strict=True):
            row[:] = self._vector(state, text)
        return found

    def hidden(self, text: Text) -> F32:
        """f32[T, E], the last layer's rows of one text, after the last norm, special tokens included."""
        ids = np.array(self.encode(text).ids, np.int32)
        return np.concatenate([*self._rows(self.model.new_state(), ids, every=True)])

    def _vector(self, state: native.State, text: Encoded) -> F64:
        ids = np.array(text.ids, np.int32)
        way = POOLED[self.embedding.pooling]
        vector = way.pool(self._rows(state, ids[: way.reads], every=way.every))
        return unit(vector) if self.embedding.normalised else vector

    def _rows(self, state: native.State, ids: NDArray[np.int32], every: bool) -> Iterator[F32]:
        """Read ids chunk by chunk: all rows of each, or the last row alone."""
        size = checked_chunk(self.chunk, self.model.chunk)
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            last = start + size >= len(ids)
            rows = np.empty((len(part) if every else int(last), self.columns), np.float32)
            self.model.run(state, HIDDEN, part, start, rows, self.adapter)
            yield rows


@dataclass(frozen=True)
class Pooling:
    """`pool` makes the vector of the rows of the first `reads` tokens (None: all), `every` or the last alone."""

    pool: Callable[[Iterable[F32]], F64]
    every: bool
    reads: int | None = None


def _only(parts: Iterable[F32]) -> F64:
    (row,) = (row for rows in parts for row in rows)
    return np.asarray(row, np.float64)


def _mean(parts: Iterable[F32]) -> F64:
    """The sum one row after the other from +0 on, over their number."""
    total, count = np.zeros((), np.float64), 0
    for rows in parts:
        for row in rows:
            total, count = total + row.astype(np.float64), count + 1
    return np.asarray(total / count, np.float64)


def _max(parts: Iterable[F32]) -> F64:
    """As the command `pool` (docs/arithmetic.md): the first of equal ones, and what is no number stays."""
    each = (row for rows in parts for row in rows)
    found = next(each)
    for row in each:
        found = np.where((row > found) | np.isnan(row), row, found)
    return np.asarray(found, np.float64)


POOLED: Mapping[str, Pooling] = {
    "last": Pooling(_only, every=False),
    "mean": Pooling(_mean, every=True),
    "cls": Pooling(_only, every=True, reads=1),  # no row sees what comes after it
    "max": Pooling(_max, every=True),
}


def unit(vector: F64) -> F64:
    """The vector over its length, at least 1e-12; the squares' sum is rounded once, so no order counts."""
    length = sqrt(fsum((vector * vector).tolist()))
    return vector / max(length, UNIT_EPS)
