"""An executor without weights: its logits are a function of the last two tokens and the position."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.adapters import Adapter, AdapterUse
from hearth.runtime.contexts.snapshot import Snapshot
from hearth.runtime.session import Segment
from hearth.schemas.commands import KVScheme
from hearth.schemas.kv_layout import KVHalf, KVLayer, KVLayout, Span


@dataclass
class FakeState:
    """The cache: one number per position; behind them values that nothing reads."""

    cache: NDArray[np.int64]


@dataclass
class FakeExecutor:
    """Prefers the token after the last one (mod vocab), the more strongly the later the position.

    The score depends on every cached token, so a session that reads stale or misplaced positions shows.
    """

    vocab: int = 50
    context: int = 64
    chunk: int = 8
    logit_rows: int = 8
    segments: int = 4
    calls: list[tuple[str, int, int, int]] = field(default_factory=list)
    fail_at: int | None = None  # position at which a run raises
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    fingerprint: str = "ab" * 32
    prompt: Snapshot | None = None

    @property
    def kv_layout(self) -> KVLayout:
        """One layer whose keys are two f32, which hold the bits of one i64."""
        nbytes = self.context * 8
        k, v = KVHalf(Span(0, nbytes)), KVHalf(Span(nbytes, nbytes))
        return KVLayout((KVLayer(k, v, 1, 2, self.context, KVScheme.F32),), 2 * nbytes)

    def new_state(self) -> FakeState:
        return FakeState(np.zeros(2 * self.context, np.int64))

    def region(self, state: FakeState) -> NDArray[np.uint8]:
        return state.cache.view(np.uint8)

    def run(
        self,
        state: FakeState,
        entry: str,
        tokens: NDArray[np.int32],
        position: int,
        logits: NDArray[np.float32],
        adapter: AdapterUse | None = None,
    ) -> None:
        self.calls.append((entry, len(tokens), position, len(logits)))
        if self.fail_at is not None and position >= self.fail_at:
            raise RuntimeError("the executor failed")
        end = position + len(tokens)
        state.cache[position:end] = tokens
        for row in range(len(logits)):
            seen = state.cache[: end - len(logits) + 1 + row]
            logits[row] = self.logits(seen, adapter)

    def run_segments(
        self,
        segments: Sequence[Segment[FakeState]],
        tokens: NDArray[np.int32],
        logits: NDArray[np.float32],
    ) -> None:
        assert len(tokens) == sum(each.tokens for each in segments) <= self.chunk
        assert len(logits) == sum(each.rows for each in segments) <= self.logit_rows
        assert len({id(each.state) for each in segments}) == len(segments) <= self.segments
        token = row = 0
        for state, count, position, rows, adapter in segments:
            part, out = tokens[token : token + count], logits[row : row + rows]
            self.run(state, "prefill", part, position, out, adapter)
            token, row = token + count, row + rows

    def logits(
        self, seen: NDArray[np.int64], adapter: AdapterUse | None = None
    ) -> NDArray[np.float32]:
        """What a fresh session that has read `seen` answers; every adapter and scale answers otherwise."""
        if adapter is not None:
            seen = np.append(zlib.crc32(repr(adapter).encode()) % self.vocab, seen)
        noise = np.random.default_rng(int(np.dot(seen, np.arange(1, len(seen) + 1))))
        scores = noise.standard_normal(self.vocab)
        scores[(int(seen[-1]) + 1) % self.vocab] += 20.0
        return scores.astype(np.float32)
