"""Multiple choice: the file's form, and the choice by sums and by bytes."""

from __future__ import annotations

import bz2
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.fake_executor import FakeExecutor, FakeState

from hearth.runtime.evaluation import answer, read_items
from hearth.runtime.evaluation.choice import Item
from hearth.schemas.errors import InputError

FILE = "One: a b\n2\nx\ny y\nz\nlong ending\nTwo: c\n0\nk\nl\nm\nn\n"


class Letters:
    """One id per character."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 50 for letter in text]


@dataclass
class Likes(FakeExecutor):
    """Finds one token, by its id, more likely than the others."""

    token: int = 0

    def run(
        self,
        state: FakeState,
        entry: str,
        tokens: np.ndarray,
        position: int,
        logits: np.ndarray,
        adapter: object = None,
    ) -> None:
        logits[:] = 0
        logits[:, self.token] = 3.0


@pytest.mark.parametrize("packed", [False, True])
def test_read_items(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("i.txt.bz2" if packed else "i.txt")
    path.write_bytes(bz2.compress(FILE.encode()) if packed else FILE.encode())
    items = read_items(path, None)
    assert items[0] == Item("One: a b", ("x", "y y", "z", "long ending"), 2)
    assert (len(items), items[1].gold, len(read_items(path, 1))) == (2, 0, 1)


@pytest.mark.parametrize(
    "text", ["", "one line\n", FILE + "left over\n", FILE.replace("\n2\n", "\n4\n")]
)
def test_other_forms_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "i.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        read_items(tmp_path / "i.txt", None)
    assert caught.value.code == "input.items"


def test_answer_counts_what_the_model_finds_likely() -> None:
    items = [Item("ab", ("x", "y", "z", "w"), gold) for gold in (0, 1, 2, 3)]
    likes_z = Likes(token=ord("z") % 50)
    found = answer(likes_z, Letters(), items, lambda _: None)
    assert (found.items, found.accuracy, found.accuracy_norm) == (4, 0.25, 0.25)
    assert found.chosen.tolist() == found.chosen_norm.tolist() == [2, 2, 2, 2]
    assert found.nats.shape == found.nbytes.shape == (4, 4)
    assert found.error == pytest.approx((0.25 * 0.75 / 4) ** 0.5)


def test_by_bytes_a_long_likely_ending_beats_a_short_unlikely_one_and_by_sums_it_loses() -> None:
    item = [Item("ab", ("x", "zzzzzzzz", "yyyy", "wwww"), 1)]
    found = answer(Likes(token=ord("z") % 50), Letters(), item, lambda _: None)
    assert (found.accuracy, found.accuracy_norm) == (0.0, 1.0)


def test_only_the_tokens_of_the_ending_are_scored_even_where_the_context_is_cut() -> None:
    executor = Likes(context=16, chunk=4, token=ord("z") % 50)
    short = answer(executor, Letters(), [Item("ab", ("z", "y", "x", "w"), 0)], lambda _: None)
    long = answer(executor, Letters(), [Item("ab" * 40, ("z", "y", "x", "w"), 0)], lambda _: None)
    assert short.accuracy == long.accuracy == 1.0
