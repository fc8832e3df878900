"""Multiple choice in HellaSwag's form: the ending that the model finds most likely after its context.

Zellers et al. 2019, "HellaSwag: Can a Machine Really Finish Your Sentence?". A file holds six lines an item, as
llama.cpp's perplexity tool reads it: the context with its activity label, the index of the right ending, four endings.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import IO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.evaluation.scoring import F64, each_row, surprise
from hearth.runtime.session import Reader
from hearth.schemas.errors import InputError

ENDINGS = 4
LINES = 2 + ENDINGS
StateT = TypeVar("StateT")


class Encoder(Protocol):
    """Text to ids, with the special tokens that the model reads."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Item:
    """A context, its endings, and which of them is right."""

    context: str
    endings: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Choices:
    """What a model finds: `nats` f64[items, 4] is -log p of an ending's tokens, `nbytes` alike its length.

    It chooses by the sum (`accuracy`), and by the sum per byte of the ending (`accuracy_norm`), as EleutherAI's
    harness defines acc and acc_norm; `gold` [items] is right.
    """

    nats: F64
    nbytes: NDArray[np.int64]
    gold: NDArray[np.int64]

    @property
    def items(self) -> int:
        return len(self.gold)

    @property
    def chosen(self) -> NDArray[np.intp]:
        """[items] by sums."""
        return np.asarray(self.nats.argmin(axis=1))

    @property
    def chosen_norm(self) -> NDArray[np.intp]:
        """[items] by sums per byte."""
        return np.asarray((self.nats / self.nbytes).argmin(axis=1))

    @property
    def accuracy(self) -> float:
        return float((self.chosen == self.gold).mean())

    @property
    def accuracy_norm(self) -> float:
        return float((self.chosen_norm == self.gold).mean())

    @property
    def error(self) -> float:
        """Standard error of `accuracy_norm` as a share of right answers."""
        return sqrt(self.accuracy_norm * (1 - self.accuracy_norm) / self.items)


def read_items(path: Path, most: int | None) -> list[Item]:
    """The first `most` items of a text file, or of one packed by bzip2; InputError `input.items` for another form."""
    lines: list[str] = []
    with _opened(path) as file:
        for line in file:
            if most is not None and len(lines) == most * LINES:
                break
            lines.append(line.rstrip("\n"))
    if not lines or len(lines) % LINES:
        raise _malformed(path, f"{len(lines)} lines", f"a multiple of {LINES}")
    return [
        _item(path, start, lines[start : start + LINES]) for start in range(0, len(lines), LINES)
    ]


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".bz2":
        return bz2.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _item(path: Path, start: int, lines: Sequence[str]) -> Item:
    context, gold, *endings = lines
    if gold not in map(str, range(ENDINGS)):
        raise _malformed(path, f"line {start + 2} is {gold!r:.40}", f"0 to {ENDINGS - 1}")
    return Item(context, tuple(endings), int(gold))


def _malformed(path: Path, found: str, expected: str) -> InputError:
    return InputError(
        "input.items",
        found,
        expected=f"{expected}: six lines an item, context, index of the right ending, four endings",
        where=str(path),
    )


def answer(
    model: Reader[StateT],
    tokenizer: Encoder,
    items: Sequence[Item],
    advance: Callable[[int], None],
) -> Choices:
    """What the model finds of every ending. Its tokens are those after the ones that it shares with its context alone;
    of an item longer than the model's context the beginning is left out."""
    nats = np.empty((len(items), ENDINGS))
    for row, item in zip(nats, items, strict=True):
        start = tokenizer.encode(item.context)
        row[:] = [
            _nats(model, start, tokenizer.encode(f"{item.context} {end}")) for end in item.endings
        ]
        advance(1)
    nbytes = [[len(ending.encode()) for ending in item.endings] for item in items]
    return Choices(nats, np.array(nbytes), np.array([item.gold for item in items]))


def _nats(model: Reader[StateT], start: Sequence[int], ids: Sequence[int]) -> float:
    """-log p of the tokens of `ids` after those it has in common with `start`."""
    shared = next(
        (n for n, (a, b) in enumerate(zip(start, ids, strict=False)) if a != b), len(start)
    )
    scored = len(ids) - max(shared, 1)
    kept = np.asarray(ids[-model.context :], np.int32)
    found = np.concatenate([surprise(*pair) for pair in each_row(model, kept)] or [np.empty(0)])
    return float(found[max(len(found) - scored, 0) :].sum())
