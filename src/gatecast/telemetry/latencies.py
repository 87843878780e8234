"""A histogram that counts many observations in one step."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Series:
    """The durations of one label; what passes together is counted together, which costs as much as one."""

    __slots__ = ("_buckets", "counts", "total")

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = buckets
        #: How many fell into each bucket, and above the last one.
        self.counts = [0] * (len(buckets) + 1)
        #: Their sum, in seconds.
        self.total = 0.0

    def observe(self, seconds: float, count: int) -> None:
        """Count this many events with this duration; clocks that differ a little make no negative durations."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(self._buckets, seconds)] += count
        self.total += seconds * count


class Latencies(Collector):
    """Durations by one label."""

    def __init__(self, name: str, documentation: str, *, label: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        #: Name of the one label.
        self.label = label
        self._buckets = buckets
        self._series: dict[str, Series] = {}

    def of(self, label: str) -> Series:
        """Where to count what has this label: asked for once, because finding it costs as much as counting."""
        if label not in self._series:
            self._series[label] = Series(self._buckets)
        return self._series[label]

    def collect(self) -> Iterator[Metric]:
        """The counts, as Prometheus reads them."""
        artifact_kind = HistogramMetricFamily(self._name, self._documentation, labels=[self.label])
        bounds = [*map(floatToGoString, self._buckets), "+Inf"]
        for label, series in self._series.items():
            if not any(series.counts):
                continue
            so_far = 0
            buckets = []
            for bound, count in zip(bounds, series.counts, strict=True):
                so_far += count
                buckets.append((bound, float(so_far)))
            artifact_kind.add_metric([label], buckets, series.total)
        yield artifact_kind
