"""A histogram that counts many observations in one step."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Latencies(Collector):
    """Durations by one label; what passes together is counted together, which costs as much as one."""

    def __init__(self, name: str, documentation: str, *, label: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        #: Name of the one label.
        self.label = label
        self._buckets = buckets
        #: By label: how many fell into each bucket, and what they add up to.
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, label: str, seconds: float, count: int) -> None:
        """Count so many events that took so long; clocks that differ a little make no negative durations."""
        counts = self._counts.get(label)
        if counts is None:
            counts = self._counts[label] = [0] * (len(self._buckets) + 1)
            self._sums[label] = 0.0
        seconds = max(seconds, 0.0)
        counts[bisect_left(self._buckets, seconds)] += count
        self._sums[label] += seconds * count

    def collect(self) -> Iterator[Metric]:
        """What was counted, as Prometheus reads it."""
        artifact_kind = HistogramMetricFamily(self._name, self._documentation, labels=[self.label])
        bounds = [*map(floatToGoString, self._buckets), "+Inf"]
        for label, counts in self._counts.items():
            so_far = 0
            buckets = []
            for bound, count in zip(bounds, counts, strict=True):
                so_far += count
                buckets.append((bound, float(so_far)))
            artifact_kind.add_metric([label], buckets, self._sums[label])
        yield artifact_kind
