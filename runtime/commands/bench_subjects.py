"""What `hearth bench` times: prefill and decode of a decoder, the vector of a text of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from hearth.runtime.encoder import HIDDEN, MAIN, Encoder
from hearth.runtime.model import Model
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from hearth.runtime.graph_model import GraphModel

Clock = Callable[[], float]
Times = tuple[float, ...]


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

    def one_run(self, ids: Sequence[int], length: int, clock: Clock) -> Times:
        """Seconds of each part, over the first `length` ids."""

    def summary(self, length: int, runs: Sequence[Times]) -> dict[str, Any]:
        """Medians as plain data."""


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

    def one_run(self, ids: Sequence[int], length: int, clock: Clock) -> Times:
        session = self.model.session()
        began = clock()
        session.prefill(ids[:length]).argmax()
        first = clock()
        for token in ids[length : length + self.decode]:
            session.decode(token).argmax()
        return first - began, clock() - first

    def summary(self, length: int, runs: Sequence[Times]) -> dict[str, Any]:
        ttft, decoding = (median(times) for times in zip(*runs, strict=True))
        return {
            "prompt_tokens": length,
            "decode_tokens": self.decode,
            "ttft_s": ttft,
            "prefill_tokens_per_s": length / ttft,
            "decode_tokens_per_s": self.decode / decoding,
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

    def one_run(self, ids: Sequence[int], length: int, clock: Clock) -> Times:
        entry = HIDDEN if self.model.embedding.pooling == "none" else MAIN
        text = self.model.encode(ids[:length])
        began = clock()
        self.model.hidden(text) if entry == HIDDEN else self.model.embed([text])
        return (clock() - began,)

    def summary(self, length: int, runs: Sequence[Times]) -> dict[str, Any]:
        elapsed = median(times[0] for times in runs)
        return {
            "prompt_tokens": length,
            "embed_s": elapsed,
            "texts_per_s": 1 / elapsed,
            "tokens_per_s": length / elapsed,
        }


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
