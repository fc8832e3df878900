"""Which scheduler runs a model."""

from __future__ import annotations

from hearth.runtime.model import Model
from hearth.runtime.serving.jobs import Scheduler
from hearth.runtime.serving.serial import SerialScheduler
from hearth.runtime.serving.service import Schedule, Settings


def scheduler_of(settings: Settings) -> Schedule:
    """What `Service` calls for each decoder that it loads."""

    def schedule(model: Model) -> Scheduler:
        return SerialScheduler(model, queue_length=settings.queue)

    return schedule
