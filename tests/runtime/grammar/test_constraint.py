"""Masks of a small vocabulary: what may come next, ends, padding, copies, and what is kept."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from hearth.runtime.grammar import (
    Ebnf,
    GrammarConstraint,
    Grammars,
    JsonObject,
    JsonSchema,
    Regex,
)
from hearth.runtime.grammar.constraint import MOST_KEPT
from hearth.runtime.text.tokenizer import Tokenizer as Reader
from hearth.schemas.errors import InputError

LETTERS = 'abc{}":1, '
END, MARK = len(LETTERS), len(LETTERS) + 1
VOCAB = 40  # the model's: more than the tokenizer has


@cache
def tokenizer() -> Reader:
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(LETTERS)}, merges=[]))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken("<end>"), AddedToken("<mark>")])
    return Reader(backend, {})


def grammars(ends: tuple[int, ...] = (END,), vocab: int = VOCAB) -> Grammars:
    return Grammars(tokenizer(), vocab, ends)


def bits(constraint: GrammarConstraint) -> set[int]:
    words = constraint.allowed()
    assert words.dtype == np.uint32
    return set(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist())


def following(constraint: GrammarConstraint) -> str:
    """The characters that may follow; a dot is the end."""
    return "".join(sorted((LETTERS + ".")[id] for id in bits(constraint)))


def after(constraint: GrammarConstraint, text: str) -> GrammarConstraint:
    for letter in text:
        assert LETTERS.index(letter) in bits(constraint), letter
        constraint.accept(LETTERS.index(letter))
    return constraint


def test_only_what_the_grammar_allows_may_follow() -> None:
    constraint = grammars().constraint(Regex("ab?c+"))
    assert following(constraint) == "a" and not constraint.complete
    assert following(after(constraint, "a")) == "bc"
    assert following(after(constraint, "c")) == ".c"
    assert constraint.complete and not constraint.done
    constraint.accept(END)
    assert constraint.done


def test_done_when_only_the_end_may_follow() -> None:
    constraint = after(grammars().constraint(Ebnf('root ::= "ab" | "c"')), "ab")
    assert constraint.done
    assert following(constraint) == "."


def test_json_has_bounded_white_space() -> None:
    constraint = after(grammars().constraint(JsonObject()), "{ ")
    assert following(constraint) == '"}'
    after(constraint, '"a": 1, "b":1}')
    assert constraint.done


@pytest.mark.parametrize("vocab", [len(LETTERS) + 2, 31, 32, 33, 64, 96])
@pytest.mark.parametrize("ends", [(END,), (END, MARK), (), (END, 1000)])
def test_padding_and_special_tokens_never_follow(vocab: int, ends: tuple[int, ...]) -> None:
    constraint = grammars(ends, vocab).constraint(Regex("(?s:.*)"))
    assert len(constraint.allowed()) == -(-vocab // 32)
    assert bits(constraint) == set(range(len(LETTERS))) | {end for end in ends if end < vocab}


def test_a_model_that_names_no_end() -> None:
    constraint = after(grammars(()).constraint(Regex("ab")), "ab")
    assert constraint.done
    assert bits(constraint) == set()


def test_copies_go_their_own_ways() -> None:
    one = after(grammars().constraint(Regex("a(b|c)a")), "a")
    other = one.copy()
    assert following(after(one, "b")) == "a"
    assert following(other) == "bc"
    assert following(after(other, "ca")) == "." and other.done and not one.done


def test_masks_are_the_callers_own() -> None:
    constraint = grammars().constraint(Regex("ab"))
    first = constraint.allowed()
    kept = first.copy()
    after(constraint, "a").allowed()
    assert np.array_equal(first, kept)


def test_a_wish_is_prepared_once_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from hearth.runtime.grammar import constraint as module

    prepared: list[object] = []
    prepare = module.prepare

    def counted(wish: Regex) -> str:
        prepared.append(wish)
        return prepare(wish)

    monkeypatch.setattr(module, "prepare", counted)
    kept = grammars()
    for _ in range(3):
        after(kept.constraint(Regex("abc")), "abc")
    schema = {"type": "integer"}
    assert kept.constraint(JsonSchema.of(schema)) is not kept.constraint(JsonSchema.of(schema))
    assert len(prepared) == 2
    for number in range(MOST_KEPT):
        kept.constraint(Regex(f"a{{{number + 1}}}"))
    kept.constraint(Regex("abc"))
    assert len(prepared) == MOST_KEPT + 3


def test_a_token_that_is_not_allowed_is_refused_and_nothing_goes_on() -> None:
    constraint = grammars().constraint(Regex("ab"))
    for letter in "ca":
        with pytest.raises(InputError) as found:
            constraint.accept(LETTERS.index(letter))
        assert found.value.code == "grammar.failed"
    with pytest.raises(InputError):
        constraint.allowed()
