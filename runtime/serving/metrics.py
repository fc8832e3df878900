"""What a server counts, in Prometheus' form; each server has a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from hearth.runtime.serving.jobs import Usage
    from hearth.runtime.serving.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters that requests feed, and gauges read from the service when they are asked for."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hearth_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "hearth_request_seconds", "From the head of a request to the end of its answer", ("route",),
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.tokens = Counter(
            "hearth_tokens", "Tokens of prompts (read, or found in the prefix cache) and of answers",
            ("model", "kind"), registry=self.registry,
        )  # fmt: skip
        self.phases = Histogram(
            "hearth_phase_seconds", "Time of a job in the queue, in prefill and in decode",
            ("model", "phase"), buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Gauges(service))

    def count(self, model: str, usage: Usage) -> None:
        """A job that has finished."""
        kinds = {
            "prompt": usage.prompt_tokens - usage.cached_tokens,
            "cached": usage.cached_tokens,
            "generated": usage.generated_tokens,
        }
        for kind, count in kinds.items():
            self.tokens.labels(model, kind).inc(count)
        phases = {"queue": usage.queue_s, "prefill": usage.prefill_s, "decode": usage.decode_s}
        for phase, seconds in phases.items():
            self.phases.labels(model, phase).observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    """How things stand at this moment."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        loaded = GaugeMetricFamily(
            "hearth_model_loaded", "1 where a model is loaded", labels=["model"]
        )
        names = {running.served.name for running in self._service.running()}
        for served in self._service.list():
            loaded.add_metric([served.name], float(served.name in names))
        active = GaugeMetricFamily(
            "hearth_rows_active", "Sequences being computed", labels=["model"]
        )
        waiting = GaugeMetricFamily(
            "hearth_queue_length", "Jobs that wait for a row", labels=["model"]
        )
        for name, scheduler in self._service.schedulers().items():
            stats = scheduler.stats()
            active.add_metric([name], stats.active)
            waiting.add_metric([name], stats.waiting)
        yield from (loaded, active, waiting)
