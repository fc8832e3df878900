"""Which scheduler runs a model."""

from __future__ import annotations

from typing import Literal

from hearth.runtime.loader import load
from hearth.runtime.model import Model
from hearth.runtime.serving.jobs import Scheduler
from hearth.runtime.serving.scheduler import Scheduler as BatchingScheduler
from hearth.runtime.serving.service import Schedule
from hearth.runtime.serving.settings import Settings


def scheduler_of(settings: Settings) -> Schedule:
    """What `Service` calls for each decoder that it loads."""

    def schedule(model: Model) -> Scheduler:
        return BatchingScheduler(
            model,
            rows=settings.rows,
            queue=settings.queue,
            prefix_nbytes=settings.prefix_nbytes,
            gap_s=settings.gap_s,
            draft=_draft(settings),
        )

    return schedule


def _draft(settings: Settings) -> Model | Literal["lookup"] | None:
    """What guesses tokens; an archive is loaded on as many threads as the model."""
    if settings.draft is None or settings.draft == "lookup":
        return "lookup" if settings.draft else None
    return load(settings.draft, settings.options.threads, isa=settings.options.isa)
