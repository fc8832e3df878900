"""Models by name: archives loaded when first used, shared by requests, unloaded when idle. Knows nothing of HTTP."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.archive import open_archive
from hearth.runtime.archive.content import content_hash
from hearth.runtime.encoder import Encoder
from hearth.runtime.lora.stored import adapter_names
from hearth.runtime.model import Model
from hearth.runtime.options import Options
from hearth.runtime.serving.jobs import Scheduler
from hearth.runtime.writing import Full
from hearth.schemas import sections
from hearth.schemas.errors import HearthError, ResourceError, UsageError
from hearth.schemas.manifest import Manifest, ModelKind

if TYPE_CHECKING:
    from hearth.runtime.decoder_vectors import DecoderVectors
    from hearth.runtime.encoder import F32, Text

LOG = logging.getLogger("hearth.serve")
Clock = Callable[[], float]
Schedule = Callable[[Model], Scheduler]
LATEST = "latest"  # the tag that Ollama's clients add to a name without one


@dataclass(frozen=True)
class Served:
    """What is known of an archive by its name, without its weights being loaded."""

    name: str
    path: Path
    nbytes: int
    modified: datetime
    digest: str  # SHA-256 (hex) of the contents
    manifest: Manifest
    adapters: tuple[str, ...]
    chat_template: str | None
    generation_config: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The archive's own name, and `name:adapter` for each adapter in it."""
        return (self.name, *(f"{self.name}:{adapter}" for adapter in self.adapters))


@dataclass(frozen=True)
class Settings:
    """How archives are loaded and how long they stay (seconds after the last use; inf: for ever)."""

    options: Options = field(default_factory=Options)
    keep_alive_s: float = math.inf
    rows: int = 8
    queue: int = 64
    prefix_nbytes: int = 256 << 20
    draft: str | None = None  # what guesses tokens: "lookup", or the path of a smaller archive
    full: Full = Full.STOP  # what a full context means where a request does not say
    drain_s: float = 10.0  # how long a scheduler may go on with what it has when it is closed


@dataclass(frozen=True)
class Running:
    """A model that is loaded: when it will be unloaded (None: never, or not while it is used)."""

    served: Served
    users: int
    expires: datetime | None


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written or replaced."""

    inode: int
    nbytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """None where there is no such file."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


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
        if not isinstance(self.slot.model, Model):
            raise _wrong_kind(self.served, "continues no text")
        return self.slot.model

    @property
    def scheduler(self) -> Scheduler:
        """The decoder's scheduler; UsageError `arguments.kind` where the archive is an encoder."""
        if self.slot.scheduler is None:
            raise _wrong_kind(self.served, "continues no text")
        return self.slot.scheduler

    @property
    def encoder(self) -> Encoder | DecoderVectors:
        """What makes vectors; UsageError `arguments.kind` where the archive is a decoder without a pooling."""
        match self.slot.model:
            case Encoder() as encoder:
                return encoder
            case Model() as model if model.manifest.embedding is not None:
                return model.vectors(self.adapter)
        raise _wrong_kind(self.served, "makes no vectors")

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


class Service:
    """The served archives. Calls may come from any thread; `hold` blocks while an archive is loaded."""

    def __init__(
        self,
        files: Mapping[str, Path],
        settings: Settings,
        schedule: Schedule,
        clock: Clock = time.monotonic,
    ) -> None:
        """Reads what each archive says of itself; what cannot be served is refused here, by its own error."""
        self.settings, self._schedule, self._clock = settings, schedule, clock
        self._stamps = {name: Stamp.of(path) for name, path in files.items()}
        self._slots = {name: Slot(read_served(name, path)) for name, path in files.items()}
        self._former: list[Slot] = []  # of files that have changed since, for who uses them still
        self._lock = threading.Lock()  # of the three above
        self._closed = False

    def list(self) -> tuple[Served, ...]:
        """Every archive, loaded or not, in the order given."""
        return tuple(self._slot(name).served for name in self._slots)

    def find(self, name: str) -> tuple[Served, AdapterUse | None]:
        """What `NAME`, `NAME:ADAPTER` or `NAME:latest` means; UsageError `serve.model_unknown`."""
        slot, adapter = self._find(name)
        return slot.served, adapter

    def running(self) -> tuple[Running, ...]:
        """What is loaded now."""
        now = self._clock()
        return tuple(
            Running(slot.served, slot.users, _date(slot.expires - now))
            for slot in self._slots.values()
            if slot.model is not None
        )

    def schedulers(self) -> Mapping[str, Scheduler]:
        """Those of the decoders that are loaded now."""
        found = ((name, slot.scheduler) for name, slot in self._slots.items())
        return {name: scheduler for name, scheduler in found if scheduler is not None}

    @contextmanager
    def using(self, name: str, keep_alive_s: float | None = None) -> Iterator[Held]:
        """`hold`, and `release` at the end."""
        held = self.hold(name)
        try:
            yield held
        finally:
            self.release(held, keep_alive_s)

    def hold(self, name: str) -> Held:
        """Load the archive where it is not, and keep it until `release`."""
        while True:
            slot, adapter = self._find(name)
            with slot.lock:
                if slot.over:  # its file has changed since it was found
                    continue
                began = self._clock()
                fresh = slot.model is None
                if fresh:
                    self._load(slot)
                slot.users += 1
                load_s = self._clock() - began if fresh else 0.0
                return Held(slot.served, slot, adapter, load_s, self.settings)

    def release(self, held: Held, keep_alive_s: float | None = None) -> None:
        """End a use; the model is unloaded `keep_alive_s` seconds later (None: the service's own) if nobody uses it."""
        seconds = self.settings.keep_alive_s if keep_alive_s is None else keep_alive_s
        with held.slot.lock:
            held.slot.users -= 1
            held.slot.expires = self._clock() + seconds
        if seconds <= 0:
            self.expire()

    def unload(self, name: str) -> None:
        """Unload as soon as nobody uses it."""
        slot, _ = self._find(name)
        with slot.lock:
            slot.expires = self._clock()
        self.expire()

    def expire(self) -> None:
        """Unload what has not been used for its time; to be called every second or so."""
        now = self._clock()
        for slot in self._all():
            with slot.lock:
                scheduler = slot.expire(now)
            if scheduler is not None:
                scheduler.close()

    def close(self, drain_s: float | None = None) -> None:
        """Load nothing more; let schedulers go on for so long with what they have, then cancel it."""
        self._closed = True
        until = self._clock() + (self.settings.drain_s if drain_s is None else drain_s)
        for slot in self._all():
            with slot.lock:
                scheduler = slot.empty()
            if scheduler is not None:
                scheduler.close(max(0.0, until - self._clock()))

    def _find(self, name: str) -> tuple[Slot, AdapterUse | None]:
        base, colon, adapter = name.partition(":")
        slot = self._slot(base) if base in self._slots else None
        if slot is not None and (not colon or adapter in (*slot.served.adapters, LATEST)):
            known = adapter in slot.served.adapters
            return slot, AdapterUse(adapter) if known else None
        names = [name for each in self._slots.values() for name in each.served.names]
        raise UsageError(
            "serve.model_unknown",
            f"there is no model {name!r:.200}",
            expected=f"one of {', '.join(names)}",
        )

    def _all(self) -> tuple[Slot, ...]:
        with self._lock:
            self._former = [slot for slot in self._former if not slot.over]
            return (*self._slots.values(), *self._former)

    def _slot(self, name: str) -> Slot:
        """The archive as its file is now; where that cannot be read, as it was.

        A changed file (an adapter more, say) is another archive: it is loaded when it is used, and whoever uses the
        former one goes on with that.
        """
        with self._lock:
            slot = self._slots[name]
            stamp = Stamp.of(slot.served.path)
            if stamp is None or stamp == self._stamps[name]:
                return slot
            self._stamps[name] = stamp
            try:
                served = read_served(name, slot.served.path)
            except HearthError as error:
                LOG.warning("%s has changed, and is served as it was: %s", name, error)
                return slot
            slot.former = True
            self._former.append(slot)
            self._slots[name] = Slot(served)
            return self._slots[name]

    def _load(self, slot: Slot) -> None:
        """Under the slot's lock."""
        if self._closed:
            raise ResourceError(
                "resource.closing", "the server is shutting down", remedy="try another server"
            )
        from hearth.runtime.loader import load_any

        options = self.settings.options
        model = load_any(
            slot.served.path, options.threads, isa=options.isa, **options.placing.wishes()
        )
        assert isinstance(model, Model | Encoder)  # read_served refused others
        if isinstance(model, Model):
            slot.scheduler = self._schedule(model)
        if model.has_tokenizer:
            _ = model.tokenizer  # parsed now, not by the first two requests at once
        slot.model, slot.expires = model, math.inf


def read_served(name: str, path: Path) -> Served:
    """What an archive says of itself; UsageError `arguments.kind` for a graph, ArchiveError for what is none."""
    archive = open_archive(path)
    if archive.manifest.kind is ModelKind.GRAPH:
        raise UsageError(
            "arguments.kind",
            f"{path} is a graph",
            expected="decoders and encoders",
            remedy="hearth run runs graphs",
        )
    config = archive.text(sections.GENERATION_CONFIG)
    return Served(
        name, path, archive.header.file_nbytes, _modified(path), content_hash(archive.entries.values()),
        archive.manifest, adapter_names(archive), archive.text(sections.CHAT_TEMPLATE), config,
    )  # fmt: skip


def read_files(given: Sequence[str]) -> dict[str, Path]:
    """FILE or NAME=FILE of the command line; a file's name without its ending names it.

    What has a slash before the equals sign is a path.
    """
    files: dict[str, Path] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        named = equals and "/" not in name
        path = Path(rest if named else text)
        name = name if named else path.stem
        if not name or any(each in ":/?#" or each.isspace() for each in name):
            raise UsageError(
                "arguments.model_name",
                f"{name!r} as a model's name",
                expected="a word without colon, slash, question mark or hash",
                remedy="give NAME=FILE",
            )
        if name in files:
            raise UsageError(
                "arguments.model_name",
                f"two archives are called {name!r}",
                expected="a name for each",
                remedy="give NAME=FILE",
            )
        files[name] = path
    return files


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _date(seconds: float) -> datetime | None:
    """So many seconds from now."""
    return None if math.isinf(seconds) else datetime.now(UTC) + timedelta(seconds=seconds)


def _wrong_kind(served: Served, what: str) -> UsageError:
    return UsageError(
        "arguments.kind",
        f"{served.name} is {'an encoder' if served.manifest.kind is ModelKind.ENCODER else 'a decoder'}: it {what}",
        expected="a model of the kind that this endpoint needs",
    )
