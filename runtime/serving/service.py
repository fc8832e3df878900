"""Models by name: archives loaded when first used, shared by requests, unloaded when idle. Knows nothing of HTTP."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.encoder import Encoder
from hearth.runtime.model import Model
from hearth.runtime.serving.held import Held, Slot, closing
from hearth.runtime.serving.jobs import Scheduler
from hearth.runtime.serving.served import Served, Stamp, read_served
from hearth.runtime.serving.settings import Settings
from hearth.schemas.errors import HearthError, UsageError

LOG = logging.getLogger("hearth.serve")
Clock = Callable[[], float]
Schedule = Callable[[Model], Scheduler]
LATEST = "latest"  # the tag that Ollama's clients add to a name without one


@dataclass(frozen=True)
class Running:
    """A model that is loaded: when it will be unloaded (None: never, or not while it is used)."""

    served: Served
    users: int
    expires: datetime | None


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
            raise closing()
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


def _date(seconds: float) -> datetime | None:
    """So many seconds from now; what is further away than calendars reach is never."""
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return None
