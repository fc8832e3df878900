"""An archive that is loaded or not, and its being used: what requests hold."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.encoder import Encoder
from hearth.runtime.model import Model
from hearth.runtime.serving.jobs import Scheduler
from hearth.runtime.serving.served import Served
from hearth.runtime.serving.settings import Settings
from hearth.schemas.errors import ResourceError, UsageError
from hearth.schemas.manifest import ModelKind

if TYPE_CHECKING:
    from hearth.runtime.decoder_vectors import DecoderVectors
    from hearth.runtime.encoder import F32, Text


class Slot:
    """One archive as its file was once: loaded or not, and who uses it. Guarded by its lock."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.lock = threading.Lock()
        self.model: Model | Encoder | None = None
        self.scheduler: Scheduler | None = None
        self.users = self.embedding = 0
        self.expires = math.inf  # by the service's clock, once nobody uses it
        self.former = False  # the file has changed since: for who uses it already
        self.over = False  # and nobody does any more, or ever will

    def empty(self) -> Scheduler | None:
        """Under its lock: nothing is loaded here any more; the scheduler is to be closed without the lock."""
        scheduler, self.scheduler, self.model = self.scheduler, None, None
        self.expires = math.inf
        return scheduler

    def expire(self, now: float) -> Scheduler | None:
        """Under its lock: `empty` where nobody uses it and its time is over."""
        if self.users or (self.expires > now and not self.former):
            return None
        self.over = self.former
        return self.empty()


@dataclass(frozen=True)
class Held:
    """A loaded model in use; `load_s` is what loading took, 0 where it was there already."""

    served: Served
    slot: Slot
    adapter: AdapterUse | None
    load_s: float
    settings: Settings

    @property
    def model(self) -> Model:
        """The decoder; UsageError `arguments.kind` where the archive is an encoder."""
        loaded = self._loaded
        if not isinstance(loaded, Model):
            raise _wrong_kind(self.served, "continues no text")
        return loaded

    @property
    def scheduler(self) -> Scheduler:
        """The decoder's scheduler; UsageError `arguments.kind` where the archive is an encoder."""
        if not isinstance(self._loaded, Model):
            raise _wrong_kind(self.served, "continues no text")
        scheduler = self.slot.scheduler
        if scheduler is None:  # since a moment ago
            raise closing()
        return scheduler

    @property
    def encoder(self) -> Encoder | DecoderVectors:
        """What makes vectors; UsageError `arguments.kind` where the archive is a decoder without a pooling."""
        match self._loaded:
            case Encoder() as encoder:
                return encoder
            case Model() as model if model.manifest.embedding is not None:
                return model.vectors(self.adapter)
        raise _wrong_kind(self.served, "makes no vectors")

    @property
    def _loaded(self) -> Model | Encoder:
        """ResourceError `resource.closing` where the server has unloaded it meanwhile, which it does at its end."""
        if self.slot.model is None:
            raise closing()
        return self.slot.model

    def embed(self, texts: Sequence[Text]) -> F32:
        """f32[n, E]; blocks. ResourceError `resource.queue_full` where too many calls wait for the model."""
        encoder = self.encoder
        with self._turn():
            return encoder.embed(texts)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self.slot.lock:
            if self.slot.embedding >= self.settings.queue:
                raise ResourceError(
                    "resource.queue_full",
                    f"{self.slot.embedding} requests wait for {self.served.name}",
                    expected=f"at most {self.settings.queue}",
                    remedy="try again later, or serve with a larger --queue",
                )
            self.slot.embedding += 1
        try:
            yield
        finally:
            with self.slot.lock:
                self.slot.embedding -= 1


def closing() -> ResourceError:
    """The answer of a server that is shutting down."""
    return ResourceError(
        "resource.closing", "the server is shutting down", remedy="try another server"
    )


def _wrong_kind(served: Served, what: str) -> UsageError:
    return UsageError(
        "arguments.kind",
        f"{served.name} is {'an encoder' if served.manifest.kind is ModelKind.ENCODER else 'a decoder'}: it {what}",
        expected="a model of the kind that this endpoint needs",
    )
