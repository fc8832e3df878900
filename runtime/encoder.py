"""A loaded encoder: texts, pairs of texts or token ids in, vectors out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.binding import new_state, run_segments
from hearth.runtime.loaded import Loaded
from hearth.runtime.session import Ids, check_room, checked_ids
from hearth.runtime.text.tokenizer import Encoded
from hearth.schemas.errors import InputError, UsageError
from hearth.schemas.manifest import Embedding
from hearth.schemas.program import Entry

MAIN, HIDDEN = "main", "hidden"
TOKENS, TYPES = "tokens", "types"
TEXTS_AT_ONCE = 16  # of one run; each has keys and values of its own
F32 = NDArray[np.float32]
Text = str | tuple[str, str] | Ids | Encoded


@dataclass(frozen=True, eq=False)
class Encoder(Loaded):
    """Made by `load_encoder`. May be used from several threads; the engine runs one call at a time.

    A vector depends on its own text alone, to the bit where the archive's kernels are exact: not on the texts
    beside it, and not on threads or instruction set.
    """

    @property
    def embedding(self) -> Embedding:
        """How the vectors are made: pooling, normalisation, columns."""
        embedding = self.manifest.embedding
        assert embedding is not None  # consistency.py: an encoder has one
        return embedding

    @property
    def columns(self) -> int:
        """E, the numbers of a vector."""
        return self.embedding.columns

    @property
    def vocab(self) -> int:
        """V: ids are below it."""
        return self._limits[TOKENS]

    @property
    def has_types(self) -> bool:
        """Whether the model tells the two texts of a pair apart."""
        return any(port.name == TYPES for port in self.archive.program.entries[MAIN].inputs)

    def encode(self, text: Text, prompt_name: str | None = None) -> Encoded:
        """The ids and types of a text, of a pair of texts, or of ids (types all 0), as the model reads them.

        One text comes after the instruction `prompt_name`, None: the archive's default, if it has one.
        Texts get the special tokens of the tokenizer's post-processor. What is longer than the context is cut as
        sentence-transformers cuts it: the special tokens stay, and of a pair the longer text loses first (strategy
        "longest_first", at the tokenizer's truncation side). Ids are never cut: too many of them are
        InputError `input.context_full`. Types that the model does not tell apart (`has_types`) are not read.
        """
        found = encoded(text, self, prompt_name)
        ids = checked_ids(found.ids, self.vocab)
        check_room(0, len(ids), self.context)
        if self.has_types:
            _check_types(found, self._limits[TYPES])
        return found

    def embed(self, texts: str | Sequence[Text], prompt_name: str | None = None) -> F32:
        """f32[n, E], a vector for each of the texts (one text alone: n is 1); pairs are tuples of two texts.

        Raises UsageError `arguments.pooling` where the archive has no pooling: `hidden` gives the rows.
        """
        if self.embedding.pooling == "none":
            raise UsageError(
                "arguments.pooling",
                "this archive makes a vector of each token, not of a text",
                expected="an archive compiled with a pooling",
                remedy="use hidden(), or compile with --pooling",
            )
        given = [texts] if isinstance(texts, str) else texts
        encoded = [self.encode(text, prompt_name) for text in given]
        found = np.empty((len(encoded), self.columns), np.float32)
        for group in self._groups([len(each.ids) for each in encoded]):
            self._run(MAIN, encoded[group], found[group])
        return found

    def hidden(self, text: Text) -> F32:
        """f32[T, E], the last layer's rows of one text, special tokens included."""
        encoded = self.encode(text)
        found = np.empty((len(encoded.ids), self.columns), np.float32)
        self._run(HIDDEN, [encoded], found)
        return found

    def _groups(self, lengths: Sequence[int]) -> Iterator[slice]:
        """Texts that follow each other and fit into one run."""
        alone = self.engine.one_sequence(self.entry_numbers[MAIN])
        most = 1 if alone else min(TEXTS_AT_ONCE, native.MAX_SEGMENTS)
        first = rows = 0
        for index, length in enumerate(lengths):
            if index - first == most or rows + length > self.context:
                yield slice(first, index)
                first, rows = index, 0
            rows += length
        yield slice(first, len(lengths))

    def _run(self, entry: str, texts: Sequence[Encoded], result: F32) -> None:
        if not texts:
            return
        while len(self._states) < len(texts):
            self._states.append(new_state(self.archive))
        values = {TOKENS: [text.ids for text in texts], TYPES: [text.types for text in texts]}
        ports = self.archive.program.entries[entry].inputs
        inputs = [np.array([*chain(*values[port.name])], np.int32) for port in ports]
        each = zip(self._states, texts, strict=False)
        segments = [(state, len(text.ids), 0, 0) for state, text in each]
        number = self.entry_numbers[entry]
        run_segments(self.archive, self.engine, number, segments, inputs, [result])

    @cached_property
    def _states(self) -> list[native.State]:
        """Keys and values of the texts of one run: each run writes all that it reads."""
        return []

    @cached_property
    def _limits(self) -> dict[str, int]:
        """One more than the largest id of each port."""
        entries = self.archive.program.entries.values()
        ports = {port.name for entry in entries for port in entry.inputs}
        return {name: min(_limit(entry, name) for entry in entries) for name in ports}


def encoded(text: Text, model: Loaded, prompt_name: str | None = None) -> Encoded:
    """The ids and types of what a model is to make a vector of; not checked. Instructions stand before one text."""
    match text:
        case Encoded():
            return text
        case str():
            return model.cutting.encode_pair(model.instructions.before(prompt_name) + text, None)
        case (str(first), str(second)):
            return model.cutting.encode_pair(first, second)
    ids = list(text)
    return Encoded(ids, [0] * len(ids))


def _limit(entry: Entry, name: str) -> int:
    """Rows of the smallest table that the ids of a port choose from."""
    values = {port.operand.value for port in entry.inputs if port.name == name}
    return min(
        (
            command.ints[0]
            for command in entry.commands
            if command.op == "embed" and _reads(command.operands[0], values)
        ),
        default=1 << 31,
    )


def _reads(operand: object, values: set[int]) -> bool:
    return getattr(operand, "value", None) in values


def _check_types(text: Encoded, limit: int) -> None:
    if len(text.types) != len(text.ids):
        raise InputError(
            "input.token_type",
            f"{len(text.types)} types for {len(text.ids)} ids",
            expected="one type for each id",
        )
    bad = [each for each in text.types if each not in range(limit)]
    if bad:
        raise InputError(
            "input.token_range",
            f"type id {bad[0]}",
            expected=f"0 to {limit - 1}, the model's text types",
        )
