"""What `hearth bench` times: prefill and decode of a decoder, the vector of a text of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from hearth.runtime.costs import Cost, Place, prefill_cost, run_cost
from hearth.runtime.encoder import HIDDEN, MAIN, Encoder
from hearth.runtime.machine.energy import EnergyMeter
from hearth.runtime.machine.limits import Limits
from hearth.runtime.machine.spread import Spread, spread_of
from hearth.runtime.model import Model
from hearth.runtime.session import Session
from hearth.runtime.text.tokenizer import Encoded
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from hearth.runtime import native
    from hearth.runtime.graphs.model import GraphModel

Clock = Callable[[], float]
Found = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A stretch of work: seconds, and joules where the machine counts them."""

    seconds: float
    joules: float | None


@dataclass(frozen=True)
class Watch:
    """Times pieces of work."""

    clock: Clock
    energy: EnergyMeter

    def time(self, work: Callable[[], object]) -> Span:
        """Do it and say what it took."""
        used, began = self.energy.read(), self.clock()
        work()
        seconds = self.clock() - began
        return Span(seconds, self.energy.joules(used, self.energy.read()))


@dataclass(frozen=True)
class Timed:
    """The spans of one run, and the machine's limits just before and after it (None: not measured)."""

    spans: tuple[Span, ...]
    limits: Limits | None


class Subject(Protocol):
    """One archive under measurement."""

    @property
    def model(self) -> Model | Encoder: ...
    @property
    def vocab(self) -> int: ...
    @property
    def after(self) -> int:
        """Tokens that follow a prompt."""

    @property
    def longest(self) -> int:
        """The most tokens of a prompt."""

    def one_run(self, ids: Sequence[int], length: int, watch: Watch) -> tuple[Span, ...]:
        """Each part of the work over the first `length` ids."""

    def summary(self, length: int, first: Span, runs: Sequence[Timed]) -> Found:
        """All runs as plain data; `first` is the first part of a freshly loaded model's first run."""


@dataclass(frozen=True)
class DecoderBench:
    """A prompt is read, then `decode` tokens one by one."""

    model: Model
    decode: int

    @property
    def vocab(self) -> int:
        return self.model.vocab

    @property
    def after(self) -> int:
        return self.decode

    @property
    def longest(self) -> int:
        return self.model.context - self.decode

    def one_run(self, ids: Sequence[int], length: int, watch: Watch) -> tuple[Span, ...]:
        session = self.model.session()
        read = watch.time(lambda: session.prefill(ids[:length]).argmax())
        return read, self.decode_run(session, ids, watch)

    def decode_run(self, session: Session[native.State], ids: Sequence[int], watch: Watch) -> Span:
        """The ids that follow what the session has read."""
        following = ids[session.position : session.position + self.decode]

        def work() -> None:
            for token in following:
                session.decode(token).argmax()

        return watch.time(work)

    def summary(self, length: int, first: Span, runs: Sequence[Timed]) -> Found:
        reads = [run.spans[0] for run in runs]
        entry = self.model.archive.program.entries["prefill"]
        cost = prefill_cost(entry, length, self.model.chunk)
        return {
            "prompt_tokens": length,
            "first_ttft_s": first.seconds,
            "ttft_s": spread_of(span.seconds for span in reads).as_dict(),
            "prefill_tokens_per_s": _rates(length, reads),
            **computed("prefill", cost, [(run.spans[0], run.limits) for run in runs]),
            "prefill_joules_per_token": joules(reads, length),
            **self.decoded(length, [(run.spans[1], run.limits) for run in runs]),
        }

    def decoded(self, position: int, runs: Sequence[tuple[Span, Limits | None]]) -> Found:
        """Rates of decoding after so many tokens, as fractions of what memory gives."""
        spans = [span for span, _ in runs]
        entry = self.model.archive.program.entries["decode"]
        nbytes = run_cost(entry, Place(1, 1, position + self.decode // 2)).memory_nbytes
        speeds = [(nbytes * self.decode / span.seconds, limits) for span, limits in runs]
        return {
            "decode_tokens": self.decode,
            "decode_tokens_per_s": _rates(self.decode, spans),
            "decode_nbytes_per_token": nbytes,
            "decode_bytes_per_s": median(speed for speed, _ in speeds),
            "decode_of_read": fraction(speeds, lambda limits: limits.read),
            "decode_of_mapping": fraction(speeds, lambda limits: limits.mapping),
            "decode_joules_per_token": joules(spans, self.decode),
        }


@dataclass(frozen=True)
class EncoderBench:
    """The vector of one text, or its rows where there is no pooling."""

    model: Encoder

    @property
    def vocab(self) -> int:
        return self.model.vocab

    @property
    def after(self) -> int:
        return 0

    @property
    def longest(self) -> int:
        return self.model.context

    @property
    def entry(self) -> str:
        """The one that is timed."""
        return HIDDEN if self.model.embedding.pooling == "none" else MAIN

    def one_run(self, ids: Sequence[int], length: int, watch: Watch) -> tuple[Span, ...]:
        text = self.model.encode(ids[:length])
        return (watch.time(lambda: self.run(text)),)

    def run(self, text: Encoded) -> None:
        """The entry once."""
        self.model.hidden(text) if self.entry == HIDDEN else self.model.embed([text])

    def summary(self, length: int, first: Span, runs: Sequence[Timed]) -> Found:
        spans = [run.spans[0] for run in runs]
        cost = run_cost(self.model.archive.program.entries[self.entry], Place(length))
        return {
            "prompt_tokens": length,
            "first_embed_s": first.seconds,
            "embed_s": spread_of(span.seconds for span in spans).as_dict(),
            "texts_per_s": _rates(1, spans),
            "tokens_per_s": _rates(length, spans),
            **computed("embed", cost, [(run.spans[0], run.limits) for run in runs]),
            "embed_joules_per_token": joules(spans, length),
        }


def computed(name: str, cost: Cost, runs: Sequence[tuple[Span, Limits | None]]) -> Found:
    """Operations a run, in integers and in floats, and what part of each peak they are."""
    int8, f32 = cost.int8_operations, cost.f32_operations
    integers = [(int8 / span.seconds, limits) for span, limits in runs]
    floats = [(f32 / span.seconds, limits) for span, limits in runs]
    return {
        f"{name}_int8_operations": int8,
        f"{name}_f32_operations": f32,
        f"{name}_of_int8_peak": fraction(integers, lambda limits: limits.int8),
        f"{name}_of_f32_peak": fraction(floats, lambda limits: limits.f32),
    }


def fraction(
    rates: Sequence[tuple[float, Limits | None]], limit: Callable[[Limits], Spread]
) -> float | None:
    """The median run's rate as a part of the limit measured beside it; None where none was."""
    found = [rate / limit(limits).median for rate, limits in rates if limits is not None]
    return median(found) if found else None


def joules(spans: Sequence[Span], tokens: int) -> float | None:
    """Of a token, at the median; None where the machine counts none."""
    found = [span.joules / tokens for span in spans if span.joules is not None]
    return median(found) if found else None


def _rates(count: int, spans: Sequence[Span]) -> dict[str, float]:
    return spread_of(count / span.seconds for span in spans).as_dict()


def subject(model: Model | Encoder | GraphModel, decode: int) -> Subject:
    """How to measure it; a graph has no inputs of its own to be measured with."""
    match model:
        case Model():
            return DecoderBench(model, decode)
        case Encoder():
            return EncoderBench(model)
    raise UsageError(
        "arguments.kind",
        "hearth bench with an archive that is a graph",
        expected="a decoder or an encoder",
        remedy="time load_graph(...).run(inputs) with inputs of your own",
    )
