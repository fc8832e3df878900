"""A grammar followed token by token: which tokens may come next, as a mask of bits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.grammar.prepare import matcher_class, prepare
from hearth.runtime.grammar.vocabulary import read_vocabulary
from hearth.runtime.grammar.wishes import GrammarWish
from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from hearth.runtime.text.tokenizer import Tokenizer

MOST_KEPT = 64  # prepared grammars of a model; those not used for longest go first


class GrammarConstraint:
    """One sequence's place in a grammar, of `vocab` logits; see `hearth.runtime.sampling.Constraint`."""

    def __init__(self, matcher: LLMatcher, vocab: int, spare: int | None) -> None:
        self._matcher, self._vocab, self._spare = matcher, vocab, spare

    def allowed(self) -> NDArray[np.uint32]:
        """u32[ceil(V / 32)]: bit i % 32 of word i // 32 says whether token i may come next."""
        words = np.zeros(_words(self._vocab + (self._spare is not None)), np.uint32)
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check()
        if self._spare is not None:
            words[self._spare // 32] &= np.uint32(~(1 << self._spare % 32) & 0xFFFFFFFF)
        return words[: _words(self._vocab)]

    def accept(self, token: int) -> None:
        """Go on by a token, which must be an allowed one; else InputError `grammar.failed`, from then on."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def done(self) -> bool:
        """The grammar allows nothing more: only an end token may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """The text may end here, though it may also go on."""
        return bool(self._matcher.is_accepting())

    def copy(self) -> GrammarConstraint:
        """Another sequence at the same place."""
        return GrammarConstraint(self._matcher.deep_copy(), self._vocab, self._spare)

    def _check(self) -> None:
        if self._matcher.is_error():
            problem = " ".join(self._matcher.get_error().split())[:200]
            raise InputError(
                "grammar.failed",
                f"the grammar cannot be followed further: {problem}",
                expected="one of the tokens that it allows",
                remedy="a simpler schema or grammar",
            )


class Grammars:
    """The grammars prepared for one model, each once; may be used from several threads.

    Its tokens' bytes are read on first use (0.5 s for a vocabulary of 150,000), a copy of a prepared grammar takes
    microseconds.
    """

    def __init__(self, tokenizer: Tokenizer, vocab: int, ends: Iterable[int]) -> None:
        self._tokenizer, self._vocab = tokenizer, vocab
        self._ends = sorted(end for end in ends if end < vocab)
        self._lock = Lock()
        self._backend: LLTokenizer | None = None
        self._kept: OrderedDict[GrammarWish, GrammarConstraint] = OrderedDict()

    def constraint(self, wish: GrammarWish) -> GrammarConstraint:
        """A fresh constraint; InputError grammar.* where the wish cannot be followed."""
        with self._lock:
            if wish not in self._kept:
                self._kept[wish] = self._prepared(wish)
                if len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(wish)
            return self._kept[wish].copy()

    def _prepared(self, wish: GrammarWish) -> GrammarConstraint:
        matcher = matcher_class()
        grammar = prepare(wish)
        if self._backend is None:
            self._backend = self._read()
        constraint = GrammarConstraint(
            matcher(self._backend, grammar, log_level=0), self._vocab, self._spare
        )
        constraint.allowed()  # what cannot be followed at all is refused here
        return constraint

    @property
    def _spare(self) -> int | None:
        """An id beyond the logits that stands for the end, where the model names none."""
        return None if self._ends else self._vocab

    def _read(self) -> LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        ends = self._ends or [self._vocab]
        size = self._vocab + (self._spare is not None)
        vocabulary = read_vocabulary(self._tokenizer, size, ends[0])
        return LLTokenizer(TokenizerWrapper(vocabulary), n_vocab=size, eos_token=ends)


def _words(bits: int) -> int:
    return (bits + 31) // 32
