"""Tokenizers: entries by text, merges by rank, the rest by field; damaged ones are no crash."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hearth.runtime.diff.findings import Change
from hearth.runtime.diff.tokenizer import parse, tokenizer_changes

BPE: dict[str, Any] = {
    "version": "1.0",
    "normalizer": None,
    "added_tokens": [{"id": 3, "content": "<s>", "special": True}],
    "model": {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "ab": 2},
        "merges": [["a", "b"], ["b", "a"], ["ab", "a"]],
    },
}


def changes(**edits: Any) -> list[Change]:
    other = copy.deepcopy(BPE)
    for path, value in edits.items():
        *folders, last = path.split("__")
        place = other
        for folder in folders:
            place = place[folder]
        place[last] = value
    return list(tokenizer_changes(BPE, other))


CASES = {
    "nothing": ({}, []),
    "entry_came": ({"model__vocab": {"a": 0, "b": 1, "ab": 2, "ü": 3}}, [Change('vocab "ü"', None, 3)]),
    "entry_went": ({"model__vocab": {"a": 0, "b": 1}}, [Change('vocab "ab"', 2, None)]),
    "id_changed": (
        {"model__vocab": {"a": 0, "b": 2, "ab": 1}},
        [Change('vocab "b"', 1, 2), Change('vocab "ab"', 2, 1)],
    ),
    "merge_went": (
        {"model__merges": [["a", "b"], ["ab", "a"]]},
        [Change('merge ["b", "a"]', 1, None)],
    ),
    "merges_swapped": (
        {"model__merges": [["b", "a"], ["a", "b"], ["ab", "a"]]},
        [Change('merge ["a", "b"]', 0, 1), Change('merge ["b", "a"]', 1, 0)],
    ),
    "merges_of_another_kind": ({"model__merges": None}, [Change("merges", "3 merges", None)]),
    "normalizer": ({"normalizer": {"type": "NFC"}}, [Change("normalizer", None, {"type": "NFC"})]),
    "model_setting": ({"model__unk_token": "<unk>"}, [Change("model.unk_token", None, "<unk>")]),
    "added_token": (
        {"added_tokens": [{"id": 3, "content": "<s>", "special": False}]},
        [Change("added_tokens.3.special", True, False)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_changes(name: str) -> None:
    edits, expected = CASES[name]
    assert changes(**edits) == expected


def test_a_unigram_vocabulary_has_scores() -> None:
    a = {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}
    b = {"model": {"vocab": [["a", -1.0], ["b", -2.5]]}}
    assert list(tokenizer_changes(a, b)) == [Change('vocab "b"', [1, -2.0], [1, -2.5])]


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"model": 3},
        {"model": {"vocab": 1, "merges": 2}},
        {"model": {"vocab": [1, []]}},
        {"added_tokens": [1]},
    ],
)
def test_what_is_no_tokenizer_is_no_crash(other: dict[str, Any]) -> None:
    assert list(tokenizer_changes(BPE, other))
    assert list(tokenizer_changes(other, BPE))


def test_what_is_no_json() -> None:
    assert parse(b"{") is None
    assert parse(b"[" * 100_000) is None
    assert parse(b"\xff") is None
