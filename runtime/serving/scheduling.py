"""Which scheduler runs a model."""

from __future__ import annotations

from hearth.runtime.model import Model
from hearth.runtime.serving.jobs import Scheduler
from hearth.runtime.serving.scheduler import Scheduler as BatchingScheduler
from hearth.runtime.serving.service import Schedule, Settings


def scheduler_of(settings: Settings) -> Schedule:
    """What `Service` calls for each decoder that it loads."""

    def schedule(model: Model) -> Scheduler:
        return BatchingScheduler(
            model, rows=settings.rows, queue=settings.queue, prefix_nbytes=settings.prefix_nbytes
        )

    return schedule
