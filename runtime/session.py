"""A session: the tokens so far and their KV cache, over weights that all sessions of a model share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.adapters import Adapter, AdapterUse, check_known
from hearth.runtime.contexts.snapshot import Snapshot, take
from hearth.schemas.errors import InputError, UsageError
from hearth.schemas.kv_layout import KVLayout

Logits = NDArray[np.float32]
Ids = Sequence[int] | NDArray[np.integer]

StateT = TypeVar("StateT")


class Reader(Protocol[StateT]):
    """What reads tokens one sequence at a time: a loaded model, or one with an adapter in use.

    `run` reads tokens[T] at `position` into the state and fills logits[R, V] for the last R of them, T at most `chunk`.
    """

    @property
    def vocab(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def chunk(self) -> int: ...
    def new_state(self) -> StateT: ...
    def run(
        self, state: StateT, entry: str, tokens: NDArray[np.int32], position: int, logits: Logits
    ) -> None: ...


class Executor(Reader[StateT], Protocol[StateT]):
    """What a session needs of a loaded model; several sessions may share one.

    `run` reads with an adapter where one is given.
    `run_segments` does so for several states at once, whose rows of tokens and logits follow each other.
    One run takes at most `chunk` tokens, `logit_rows` rows of logits and `segments` states.
    `region` is the memory of a state, laid out as `kv_layout`; `fingerprint` names what decides its bits.
    `prompt` is one that a state need not read.
    """

    @property
    def logit_rows(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def adapters(self) -> Mapping[str, Adapter]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def kv_layout(self) -> KVLayout: ...
    @property
    def prompt(self) -> Snapshot | None: ...
    def region(self, state: StateT) -> NDArray[np.uint8]: ...
    def run(
        self,
        state: StateT,
        entry: str,
        tokens: NDArray[np.int32],
        position: int,
        logits: Logits,
        adapter: AdapterUse | None = None,
    ) -> None: ...
    def run_segments(
        self, segments: Sequence[Segment[StateT]], tokens: NDArray[np.int32], logits: Logits
    ) -> None: ...


class Segment(NamedTuple, Generic[StateT]):
    """The next `tokens` tokens of a run belong to this state, at `position`; its last `rows` get logits.

    They are read with `adapter`, whatever other segments of the run use.
    """

    state: StateT
    tokens: int
    position: int
    rows: int
    adapter: AdapterUse | None = None


class Session(Generic[StateT]):
    """One sequence being read and written.

    A call that fails (bad ids, context full, interrupted) leaves `position` and `tokens` as they
    were, and the session goes on from there: what the cache holds beyond `position` is not read.
    """

    def __init__(
        self,
        executor: Executor[StateT],
        chunk: int | None = None,
        adapter: AdapterUse | None = None,
    ) -> None:
        if adapter is not None:
            check_known(adapter, executor.adapters)
        self._adapter = adapter
        self._executor = executor
        self._chunk = checked_chunk(chunk, executor.chunk)
        self._state = executor.new_state()
        self._tokens: list[int] = []
        self._readers: list[AdapterUse | None] = []  # of each token

    @property
    def position(self) -> int:
        """Tokens in the cache, which is the index of the next one."""
        return len(self._tokens)

    @property
    def context(self) -> int:
        """Tokens the cache can hold."""
        return self._executor.context

    @property
    def tokens(self) -> tuple[int, ...]:
        """The ids in the cache."""
        return tuple(self._tokens)

    @property
    def readers(self) -> tuple[AdapterUse | None, ...]:
        """What each of them was read with."""
        return tuple(self._readers)

    def prefill(
        self, ids: Ids, *, chunk: int | None = None, between: Callable[[], None] | None = None
    ) -> Logits:
        """Read ids[T] (at least one) after what is there; the logits f32[V] after the last of them.

        Done in chunks of at most `chunk` tokens, whose size changes nothing but the speed. `between`
        is called before each chunk; it may raise to give up.
        """
        tokens = self.checked(ids)
        size = self._chunk if chunk is None else checked_chunk(chunk, self._executor.chunk)
        logits = np.empty(self._executor.vocab, np.float32)
        for start in range(self._known(tokens), len(tokens), size):
            if between is not None:
                between()
            last = start + size >= len(tokens)
            rows = logits.reshape(1, -1)[: int(last)]
            part = tokens[start : start + size]
            self._run("prefill", part, self.position + start, rows)
        self.keep(tokens)
        return logits

    def verify(self, ids: Ids) -> Logits:
        """Read ids[T] (at least one); the logits f32[T, V] after each of them.

        For tokens that were guessed: `rewind` to the last one that the logits confirm.
        """
        tokens = self.checked(ids)
        size = min(self._chunk, self._executor.logit_rows)
        logits = np.empty((len(tokens), self._executor.vocab), np.float32)
        for start in range(0, len(tokens), size):
            part, rows = tokens[start : start + size], logits[start : start + size]
            self._run("prefill", part, self.position + start, rows)
        self.keep(tokens)
        return logits

    def decode(self, token: int) -> Logits:
        """Read one token; the logits f32[V] after it."""
        tokens = self._checked_one(token)
        logits = np.empty(self._executor.vocab, np.float32)
        self._run("decode", tokens, self.position, logits.reshape(1, -1))
        self.keep(tokens)
        return logits

    def rewind(self, position: int) -> None:
        """Forget the tokens from `position` on."""
        if not 0 <= position <= self.position:
            raise InputError(
                "input.position",
                f"cannot rewind to position {position}",
                expected=f"0 to {self.position}, the tokens read so far",
            )
        del self._tokens[position:], self._readers[position:]

    def shared(self, ids: Ids) -> int:
        """How many of the first tokens of ids[T] are here, read with the adapter in use."""
        pairs = zip(self._tokens, self._readers, ids, strict=False)
        same = takewhile(lambda pair: pair[0] == pair[2] and pair[1] == self._adapter, pairs)
        return sum(1 for _ in same)

    def snapshot(self, count: int | None = None) -> Snapshot:
        """A copy of what was read: the first `count` tokens (all) with their keys and values."""
        number = self.position if count is None else self._checked_count(count)
        model, region = self._executor, self._executor.region(self._state)
        tokens, readers = tuple(self._tokens[:number]), tuple(self._readers[:number])
        return take(model.fingerprint, model.kv_layout, region, tokens, readers)

    def restore(self, snapshot: Snapshot, count: int | None = None) -> None:
        """Become what the snapshot's first `count` tokens (all) were read into; the bits that reading them gives.

        The adapter for what comes next stays. UsageError `arguments.snapshot` where it is of another archive; then
        nothing changes.
        """
        snapshot.check_is_of(self._executor.fingerprint)
        found = snapshot if count is None else snapshot.first(count)
        found.copy_into(self._executor.region(self._state))
        self._tokens, self._readers = list(found.tokens), list(found.readers)

    def fork(self) -> Session[StateT]:
        """Another session that has read the same; neither hears of the other again."""
        other = Session(self._executor, self._chunk, self._adapter)
        other.restore(self.snapshot())
        return other

    @property
    def adapter(self) -> AdapterUse | None:
        """What the next tokens are read with."""
        return self._adapter

    def use_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """Read what comes next with this adapter, None: with none. What was read stays as it was read.

        UsageError `arguments.adapter` for a name that the archive does not have; then nothing changes.
        """
        use = None if name is None else AdapterUse(name, scale)
        check_known(use, self._executor.adapters)
        self._adapter = use

    @property
    def executor(self) -> Executor[StateT]:
        """The model: sessions of one model may share a run (batch.py)."""
        return self._executor

    @property
    def state(self) -> StateT:
        """What runs write keys and values into; of those beyond `position` nothing is read."""
        return self._state

    def _checked_count(self, count: int) -> int:
        if not 0 <= count <= self.position:
            raise InputError(
                "input.position",
                f"a snapshot of {count} tokens",
                expected=f"0 to {self.position}, the tokens read so far",
            )
        return count

    def checked(self, ids: Ids, where: str = "") -> NDArray[np.int32]:
        """ids as i32[T], all of which can be read next."""
        tokens = checked_ids(ids, self._executor.vocab, where)
        check_room(self.position, len(tokens), self._executor.context, where)
        return tokens

    def _checked_one(self, token: int) -> NDArray[np.int32]:
        """The same of one token. Weights have filled the caches, so what a step looks at comes from memory: little."""
        model = self._executor
        if type(token) is int and 0 <= token < model.vocab and self.position < model.context:
            return np.array((token,), np.int32)
        return self.checked((token,))

    def _known(self, tokens: NDArray[np.int32]) -> int:
        """Put into an empty cache what the model has of a prompt, all but its last token; how many tokens that are."""
        prompt = self._executor.prompt
        if prompt is None or self._tokens or self._adapter is not None:
            return 0
        pairs = zip(prompt.tokens, tokens[:-1].tolist(), strict=False)
        count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if count:
            prompt.first(count).copy_into(self._executor.region(self._state))
        return count

    def _run(self, entry: str, tokens: NDArray[np.int32], position: int, logits: Logits) -> None:
        self._executor.run(self._state, entry, tokens, position, logits, self._adapter)

    def keep(self, tokens: NDArray[np.int32]) -> None:
        """Count tokens as read that a run has put into the state from `position` on."""
        self._tokens.extend(tokens.tolist())
        self._readers.extend([self._adapter] * len(tokens))


def checked_ids(ids: Ids, vocab: int, where: str = "") -> NDArray[np.int32]:
    """ids as i32[T], T >= 1, every one of them in 0..vocab - 1; `where` is named by errors."""
    array = _as_array(ids)
    if array.ndim == 1 and array.size == 0:
        raise InputError(
            "input.empty", "there are no tokens to read", expected="at least one", where=where
        )
    if array.ndim != 1 or not _is_integral(array):
        raise InputError(
            "input.token_type",
            f"token ids are {array.dtype} of shape {array.shape}",
            expected="a flat sequence of integers",
            where=where,
        )
    bad = np.flatnonzero((array < 0) | (array >= vocab))
    if bad.size:
        raise InputError(
            "input.token_range",
            f"token id {array[bad[0]]} at index {bad[0]}",
            expected=f"0 to {vocab - 1}, the model's vocabulary",
            where=where,
        )
    return array.astype(np.int32)


def _as_array(ids: Ids) -> NDArray[Any]:
    try:
        return np.asarray(ids)
    except ValueError:  # rows of unequal lengths
        return np.empty((0, 0), object)


def _is_integral(array: NDArray[Any]) -> bool:
    """Integers of some machine type, or Python integers too large for one."""
    if array.dtype == object:
        return all(type(value) is int for value in array)
    return array.dtype.kind in "iu"


def check_room(position: int, count: int, context: int, where: str = "") -> None:
    """Refuse tokens beyond the positions the archive was compiled for."""
    if position + count > context:
        raise InputError(
            "input.context_full",
            f"{position} tokens read and {count} to read make {position + count}",
            expected=f"at most {context}, the context this archive was compiled for",
            where=where,
            remedy="shorten the prompt, rewind the session, or compile with a larger --context",
        )


def checked_chunk(chunk: int | None, largest: int) -> int:
    """Tokens of one step: as many as asked for, None: the most there can be."""
    if chunk is None:
        return largest
    if not 1 <= chunk <= largest:
        raise UsageError(
            "arguments.chunk",
            f"a prefill chunk of {chunk} tokens",
            expected=f"1 to {largest}, the chunk this archive was compiled for",
        )
    return chunk
