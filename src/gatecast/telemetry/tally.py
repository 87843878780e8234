"""A counter for what is counted with every event: it costs one addition."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally(Collector):
    """Counts in one thread, without the lock that a counter of the library takes."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._created = time.time()
        self._count = 0
        registry.register(self)

    def add(self, count: int) -> None:
        """Count this many more; a negative number counts as none."""
        if count > 0:
            self._count += count

    def collect(self) -> Iterator[Metric]:
        """The counts, as Prometheus reads them."""
        artifact_kind = CounterMetricFamily(self._name, self._documentation)
        artifact_kind.add_metric([], self._count, created=self._created)
        yield artifact_kind
