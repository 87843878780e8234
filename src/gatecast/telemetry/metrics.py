"""What a running pod counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gatecast.telemetry.latencies import Latencies

#: Every metric of this process.
registry = CollectorRegistry()

_published = Counter("gatecast_events_published", "Events that were published and are durable.", registry=registry)
_duplicates = Counter("gatecast_events_duplicate", "Published event ids that were known already.", registry=registry)
_delivered = Counter("gatecast_events_delivered", "Events handed to a socket.", registry=registry)
_confirmed = Counter("gatecast_events_confirmed", "Events that a gateway has confirmed.", registry=registry)
_rejected = Counter("gatecast_events_rejected", "Events that a gateway could not apply.", registry=registry)
_acknowledgements_ignored = Counter(
    "gatecast_acknowledgements_ignored",
    "Acknowledgements of deployments that moved nothing: late, repeated, or of something else.",
    registry=registry,
)
_frames_ignored = Counter(
    "gatecast_frames_ignored", "Frames of gateways that led to nothing, by reason.", ["reason"], registry=registry
)
_reader_passes = Counter("gatecast_reader_passes", "Looks of this pod's reader at the log.", registry=registry)
_publish_seconds = Histogram(
    "gatecast_publish_seconds",
    "From the request to the commit on disk.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=registry,
)
_hop_seconds = Latencies(
    "gatecast_event_hop_seconds",
    "From the record of an event until a pod picked it up, sent it, and its gateway confirmed and applied it.",
    label="hop",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3_600, 86_400),
)
registry.register(_hop_seconds)
_connections = Gauge("gatecast_gateway_connections", "Gateway connections of this pod.", registry=registry)
_queued = Gauge("gatecast_publish_queue_events", "Events that wait to be stored.", registry=registry)
_wakeups = Gauge("gatecast_wakeup_connected", "1 while wake-ups can arrive.", registry=registry)


_write_ahead_log = Gauge(
    "gatecast_sqlite_write_ahead_log_bytes",
    "Size of the write-ahead log beside the file, on SQLite.",
    registry=registry,
)


def write_ahead_log(size: int) -> None:
    """Show this size, in bytes."""
    _write_ahead_log.set(size)


def published(events: int, *, duplicates: int, seconds: float) -> None:
    """Count events that are durable, and those of them that were known already; note how long it took."""
    _published.inc(events)
    _duplicates.inc(duplicates)
    _publish_seconds.observe(seconds)


def delivered(events: int) -> None:
    """Count events that were handed to a socket."""
    _delivered.inc(events)


def confirmed(events: int) -> None:
    """Count events that a gateway has confirmed."""
    _confirmed.inc(max(0, events))


def passed(hop: str, seconds: float, events: int) -> None:
    """Count events that passed a hop so long after they were recorded."""
    _hop_seconds.observe(hop, seconds, events)


def rejected() -> None:
    """Count an event that a gateway could not apply."""
    _rejected.inc()


def acknowledgement_ignored() -> None:
    """Count an acknowledgement that moved nothing."""
    _acknowledgements_ignored.inc()


def frames_ignored(frames: Mapping[str, int]) -> None:
    """Count frames that led to nothing, by one of the reasons of `gatecast.protocol`."""
    for reason, count in frames.items():
        _frames_ignored.labels(reason).inc(count)


def reader_passed() -> None:
    """Count one look at the log."""
    _reader_passes.inc()


def watch(*, connections: Callable[[], int], queued: Callable[[], int], wakeups: Callable[[], bool]) -> None:
    """Read these whenever the metrics are asked for."""
    _connections.set_function(connections)
    _queued.set_function(queued)
    _wakeups.set_function(wakeups)
