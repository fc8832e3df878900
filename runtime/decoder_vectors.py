"""Vectors of texts by a decoder that was compiled with a pooling: rows of its last layer, pooled in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.adapters import AdapterUse, check_known
from hearth.runtime.encoder import F32, HIDDEN, TEXTS_AT_ONCE, Text, encoded
from hearth.runtime.session import Segment, check_room, checked_chunk, checked_ids
from hearth.runtime.text.instructions import Instructions
from hearth.runtime.text.tokenizer import Encoded, Tokenizer
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import Embedding

if TYPE_CHECKING:
    from hearth.runtime.model import Model

F64 = NDArray[np.float64]
Ids = NDArray[np.int32]
UNIT_EPS = 1e-12  # of torch.nn.functional.normalize


@dataclass(frozen=True, eq=False)
class DecoderVectors:
    """Made by `Model.vectors`; as an `Encoder` is used. May be used from several threads.

    A vector depends on its own text, the archive and the adapter alone, to the bit where the archive's kernels are
    exact: not on the texts read in the same runs, `chunk` (tokens of one run at most), threads or instruction set.
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

    @property
    def instructions(self) -> Instructions:
        """The model's."""
        return self.model.instructions

    def encode(self, text: Text, prompt_name: str | None = None) -> Encoded:
        """The ids of a text or of a pair, with the tokenizer's special tokens; texts are cut at the context.

        One text comes after the instruction `prompt_name`, None: the archive's default, if it has one.
        Ids are never cut: too many of them are InputError `input.context_full`.
        """
        found = encoded(text, self.model, prompt_name)
        ids = checked_ids(found.ids, self.model.vocab)
        check_room(0, len(ids), self.model.context)
        return found

    def embed(self, texts: str | Sequence[Text], prompt_name: str | None = None) -> F32:
        """f32[n, E], a vector for each of the texts (one text alone: n is 1)."""
        texts = [texts] if isinstance(texts, str) else texts
        given = [self.encode(text, prompt_name).ids for text in texts]
        found = np.empty((len(given), self.columns), np.float32)
        way = POOLED[self.embedding.pooling]
        pools: dict[int, Pool] = {}
        for part, rows in self._read(
            [np.array(ids, np.int32)[: way.reads] for ids in given], way.every
        ):
            pools.setdefault(part.text, way.pool()).add(rows)
            if part.last:
                vector = pools.pop(part.text).vector
                found[part.text] = unit(vector) if self.embedding.normalised else vector
        return found

    def hidden(self, text: Text) -> F32:
        """f32[T, E], the last layer's rows of one text, after the last norm, special tokens included."""
        ids = np.array(self.encode(text).ids, np.int32)
        return np.concatenate([rows for _, rows in self._read([ids], every=True)])

    def _read(self, texts: Sequence[Ids], every: bool) -> Iterator[tuple[Part, F32]]:
        """Read texts, each in a state of its own: `every` row of each part, or the last row of each text alone."""
        states: dict[int, native.State] = {}
        free: list[native.State] = []
        for run in runs([len(ids) for ids in texts], checked_chunk(self.chunk, self.model.chunk)):
            for part in run:
                if not part.start:
                    states[part.text] = free.pop() if free else self.model.new_state()
            counts = [part.tokens if every else int(part.last) for part in run]
            segments = [
                Segment(states[part.text], part.tokens, part.start, count, self.adapter)
                for part, count in zip(run, counts, strict=True)
            ]
            ids = np.concatenate([texts[part.text][part.start : part.stop] for part in run])
            rows = np.empty((sum(counts), self.columns), np.float32)
            self.model.run_segments(segments, ids, rows, HIDDEN)
            free += [states.pop(part.text) for part in run if part.last]
            yield from zip(run, np.split(rows, np.cumsum(counts)[:-1]), strict=True)


@dataclass(frozen=True)
class Part:
    """Tokens start..stop of a text, by its number; `last`: it ends there."""

    text: int
    start: int
    stop: int
    last: bool

    @property
    def tokens(self) -> int:
        return self.stop - self.start


def runs(lengths: Sequence[int], size: int) -> Iterator[list[Part]]:
    """Texts one after the other, `size` tokens of at most TEXTS_AT_ONCE texts a run; only a full run cuts a text."""
    run: list[Part] = []
    room = size
    for text, length in enumerate(lengths):
        start = 0
        while start < length:
            if not room or len(run) == TEXTS_AT_ONCE:
                yield run
                run, room = [], size
            stop = min(length, start + room)
            run.append(Part(text, start, stop, stop == length))
            room -= stop - start
            start = stop
    if run:
        yield run


class Pool(Protocol):
    """Makes a vector of a text's rows, which are added in their order."""

    def add(self, rows: F32) -> None: ...

    @property
    def vector(self) -> F64: ...


class Only:
    """The only row that is added."""

    def __init__(self) -> None:
        self._rows: list[F32] = []

    def add(self, rows: F32) -> None:
        self._rows.extend(rows)

    @property
    def vector(self) -> F64:
        (row,) = self._rows
        return np.asarray(row, np.float64)


class Mean:
    """The sum one row after the other from +0 on, over their number."""

    def __init__(self) -> None:
        self._total, self._count = np.zeros((), np.float64), 0

    def add(self, rows: F32) -> None:
        for row in rows:
            self._total = np.asarray(self._total + row.astype(np.float64))
        self._count += len(rows)

    @property
    def vector(self) -> F64:
        return np.asarray(self._total / self._count, np.float64)


class Max:
    """As the command `pool` (docs/arithmetic.md): the first of equal ones, and what is no number stays."""

    def __init__(self) -> None:
        self._found: F32 | None = None

    def add(self, rows: F32) -> None:
        for row in rows:
            before = row if self._found is None else self._found
            self._found = np.where((row > before) | np.isnan(row), row, before)

    @property
    def vector(self) -> F64:
        return np.asarray(self._found, np.float64)


@dataclass(frozen=True)
class Pooling:
    """`pool` makes the vector of the rows of the first `reads` tokens (None: all), `every` or the last alone."""

    pool: Callable[[], Pool]
    every: bool
    reads: int | None = None


POOLED: Mapping[str, Pooling] = {
    "last": Pooling(Only, every=False),
    "mean": Pooling(Mean, every=True),
    "cls": Pooling(Only, every=True, reads=1),  # no row sees what comes after it
    "max": Pooling(Max, every=True),
}


def unit(vector: F64) -> F64:
    """The vector over its length, at least 1e-12; the squares' sum is rounded once, so no order counts."""
    length = sqrt(fsum((vector * vector).tolist()))
    return vector / max(length, UNIT_EPS)
