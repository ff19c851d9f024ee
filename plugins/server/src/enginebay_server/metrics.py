"""The server's numbers, for Prometheus. Each application has its own. It knows no endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from enginebay.bay import Bay
from enginebay.data import Finish

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counters that the endpoints raise, and gauges that are read off the bay when somebody asks."""

    def __init__(self, bay: Bay, running: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("enginebay_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "enginebay_request_seconds",
            "Time to the end of an answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "enginebay_first_token_seconds", "Time to the first token.", buckets=SECONDS, registry=self.registry
        )
        self.prompt_tokens = Counter("enginebay_prompt_tokens", "Tokens of prompts.", registry=self.registry)
        self.cached_tokens = Counter(
            "enginebay_cached_tokens", "Tokens of prompts that were not computed again.", registry=self.registry
        )
        self.completion_tokens = Counter("enginebay_completion_tokens", "Tokens generated.", registry=self.registry)
        self.gone = Counter("enginebay_clients_gone", "Clients that left early.", registry=self.registry)
        self.registry.register(_BayCollector(bay, running))

    def finished(self, finish: Finish) -> None:
        """Count a sequence that has ended."""
        self.first_token.observe(finish.timings.first_token_seconds)
        self.prompt_tokens.inc(finish.usage.prompt_tokens)
        self.cached_tokens.inc(finish.usage.cached_tokens)
        self.completion_tokens.inc(finish.usage.completion_tokens)


class _BayCollector(Collector):
    def __init__(self, bay: Bay, running: Callable[[], int]) -> None:
        self._bay = bay
        self._running = running

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily("enginebay_requests_running", "Requests under way.", value=self._running())
        labels = ["model", "engine"]
        up = GaugeMetricFamily("enginebay_model_up", "1 if the model can serve.", labels=labels)
        restarts = GaugeMetricFamily("enginebay_model_restarts", "Times its process was replaced.", labels=labels)
        memory = GaugeMetricFamily("enginebay_model_memory_bytes", "Memory of its process.", labels=labels)
        for model in self._bay.status().models:
            key = [model.name, model.engine]
            up.add_metric(key, float(model.state in ("ready", "busy")))
            restarts.add_metric(key, model.restarts)
            if model.memory_bytes is not None:
                memory.add_metric(key, model.memory_bytes)
        return [running, up, restarts, memory]
