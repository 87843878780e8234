"""The metrics of a running pod, for Prometheus."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.process_collector import ProcessCollector

from gatecast.telemetry.latencies import Latencies
from gatecast.telemetry.tally import Tally
from gatecast.version import __version__

#: Every metric of this process.
registry = CollectorRegistry()

# Memory, processor time, open descriptors and the start of this process, under the names that every exporter uses.
ProcessCollector(registry=registry)

_build = Info("gatecast_build", "What runs here.", registry=registry)
_build.info({"version": __version__, "python": platform.python_version()})

_published = Counter("gatecast_events_published", "Events that were published and are durable.", registry=registry)
_duplicates = Counter(
    "gatecast_events_duplicate", "Publishes of an event id that was stored already.", registry=registry
)
_delivered = Tally("gatecast_events_delivered", "Events handed to a socket.", registry=registry)
_confirmed = Tally("gatecast_events_confirmed", "Events that a gateway has confirmed.", registry=registry)
_rejected = Counter("gatecast_events_rejected", "Events that a gateway could not apply.", registry=registry)
_acknowledgements_ignored = Counter(
    "gatecast_acknowledgements_ignored",
    "Acknowledgements of deployments that changed nothing: late, repeated, or for another deployment.",
    registry=registry,
)
_frames_ignored = Counter(
    "gatecast_frames_ignored", "Frames of gateways that were ignored, by reason.", ["reason"], registry=registry
)
_reader_passes = Counter("gatecast_reader_passes", "Reads of the log by this pod's reader.", registry=registry)
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
_batch_events = Histogram(
    "gatecast_publish_batch_events",
    "Events that one statement stores.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000),
    registry=registry,
)
#: The possible results of a probe's event.
PROBE_RESULTS = ("on-time", "late", "missing")

_probes = Counter(
    "gatecast_probes",
    "Events from this pod's probe to the next pod's, by result: on-time, late or missing.",
    ["result"],
    registry=registry,
)
for _result in PROBE_RESULTS:
    # From the start: an alert compares them.
    _probes.labels(_result)
_probe_seconds = Histogram(
    "gatecast_probe_seconds",
    "From the record of a probe's event until another pod delivered it and its gateway confirmed it.",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    registry=registry,
)
_removed = Counter("gatecast_events_removed", "Old events that this pod removed from the logs.", registry=registry)
_connects = Counter(
    "gatecast_gateway_connects", "Gateway connections that began, by protocol.", ["protocol"], registry=registry
)
_refusals = Counter(
    "gatecast_gateway_refusals",
    "Requests of gateways that were refused, connects among them, by status.",
    ["status"],
    registry=registry,
)
_closes = Counter(
    "gatecast_gateway_closes",
    "Gateway connections that this pod closed, by close code.",
    ["code"],
    registry=registry,
)
_resyncs = Counter("gatecast_resyncs", "Connections whose position could not be resumed.", registry=registry)
_requests = Counter(
    "gatecast_http_requests",
    "Answers of the API, by route and status.",
    ["method", "route", "status"],
    registry=registry,
)
_request_seconds = Histogram(
    "gatecast_http_request_seconds",
    "From a request to the API until its answer began, waiting for gateways included, by route.",
    ["route"],
    buckets=(0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 60),
    registry=registry,
)
_gateways = Gauge(
    "gatecast_gateways",
    "Gateways by the code of their `why`, connected or not; reported by one pod.",
    ["why"],
    registry=registry,
)
_oldest_unconfirmed = Gauge(
    "gatecast_oldest_unconfirmed_event_seconds",
    "Age of the oldest event that its gateway has not confirmed, connected or not; reported by one pod.",
    ["connected"],
    registry=registry,
)
_database_wait = Histogram(
    "gatecast_database_wait_seconds",
    "How long work waited for a connection to the database, or on SQLite for its turn to write.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
    registry=registry,
)
_database_use = Histogram(
    "gatecast_database_use_seconds",
    "How long a statement or a transaction used its connection.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
    registry=registry,
)
_database_in_use = Gauge(
    "gatecast_database_connections_in_use", "Connections to the database that are in use now.", registry=registry
)
_connections = Gauge("gatecast_gateway_connections", "Gateway connections of this pod.", registry=registry)
_behind = Gauge(
    "gatecast_gateways_behind",
    "Gateway connections of this pod with unconfirmed events.",
    registry=registry,
)
_alarms = Gauge("gatecast_pod_alarms", "Number of reasons why this pod is not ready.", registry=registry)
_queued = Gauge("gatecast_publish_queue_events", "Events that wait to be stored.", registry=registry)
_wakeups = Gauge("gatecast_wakeup_connected", "1 while wake-ups can arrive.", registry=registry)
_standbys_needed = Gauge(
    "gatecast_synchronous_standbys_needed",
    "Standbys that must have a commit before it is answered, on PostgreSQL; 0: none; NaN while the pod cannot tell.",
    registry=registry,
)
_standbys_in_sync = Gauge(
    "gatecast_synchronous_standbys",
    "Standbys that commits wait for and that are in sync, on PostgreSQL; NaN while the role or the pod cannot tell.",
    registry=registry,
)
_write_ahead_log = Gauge(
    "gatecast_sqlite_write_ahead_log_bytes",
    "Size of the write-ahead log beside the file, on SQLite.",
    registry=registry,
)
_forwarded = Counter(
    "gatecast_outbox_forwarded_events",
    "Events that this process forwarded from the outbox to the log.",
    registry=registry,
)
_outbox_waiting = Gauge(
    "gatecast_outbox_waiting_events",
    "Events in the outbox that are not in the log yet; reported by the forwarder.",
    registry=registry,
)
_outbox_oldest = Gauge(
    "gatecast_outbox_oldest_event_seconds",
    "Age of the oldest event in the outbox, by the clocks of its database and of the reporting process.",
    registry=registry,
)
_outbox_refused = Gauge(
    "gatecast_outbox_refused_events",
    "Events in the outbox that the log has refused; reported by the forwarder.",
    registry=registry,
)


def forwarded(events: int) -> None:
    """Count events that were forwarded from the outbox to the log."""
    _forwarded.inc(events)


def outbox(waiting: int, refused: int, oldest: float | None) -> None:
    """Show how many events wait in the outbox and how many the log refused, and since when the oldest waits.

    `oldest` is in seconds since 1970; None if none waits.
    """
    _outbox_waiting.set(waiting)
    _outbox_refused.set(refused)
    _outbox_oldest.set_function(lambda: 0.0 if oldest is None else max(time.time() - oldest, 0.0))


def standbys(needed: int | None, in_sync: int | None) -> None:
    """Show how many standbys commits wait for, and how many of those are in sync; None: unknown."""
    _standbys_needed.set(math.nan if needed is None else needed)
    _standbys_in_sync.set(math.nan if in_sync is None else in_sync)


def write_ahead_log(size: int) -> None:
    """Show this size, in bytes."""
    _write_ahead_log.set(size)


def published(events: int, *, duplicates: int, seconds: float) -> None:
    """Count events that are durable, and those of them that were known already; note how long it took."""
    _published.inc(events)
    if duplicates:
        _duplicates.inc(duplicates)
    _publish_seconds.observe(seconds)


def stored(events: int) -> None:
    """Note how many events one statement stores."""
    _batch_events.observe(events)


def removed(events: int) -> None:
    """Count old events that were removed from the logs."""
    _removed.inc(events)


def probed(result: str, seconds: float | None) -> None:
    """Count an event of a probe, and how long it took; None: it is missing."""
    _probes.labels(result).inc()
    if seconds is not None:
        _probe_seconds.observe(seconds)


def connected(protocol: str, *, lost: bool) -> None:
    """Count a gateway connection that begins, and whether it could not be continued where it was."""
    _connects.labels(protocol).inc()
    _resyncs.inc(int(lost))


def refused(status: int) -> None:
    """Count a gateway that is not let in."""
    _refusals.labels(status).inc()


def closed(code: int) -> None:
    """Count a gateway connection that this pod closes with this code."""
    _closes.labels(code).inc()


#: Remembered: to find a series by its labels takes as long as to count. There are as few of them as there are routes.
_count_of, _seconds_of = cache(_requests.labels), cache(_request_seconds.labels)


def answered(method: str, route: str, status: int, seconds: float) -> None:
    """Count an answer of the API. `route` is the path with its parameters' names, so that there are few of them."""
    _count_of(method, route, status).inc()
    _seconds_of(route).observe(seconds)


#: Counts events that were handed to a socket.
delivered = _delivered.add

#: Counts events that a gateway has confirmed.
confirmed = _confirmed.add


#: Where to count events that passed a hop, with how long that was after they were recorded.
passing = _hop_seconds.of


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


def gateways(by_why: Mapping[str, int], oldest: Mapping[bool, float]) -> None:
    """Show the number of gateways in each state, and the oldest unconfirmed event's age by whether they are connected.

    Without gateways, nothing is shown: another pod reports.
    """
    _gateways.clear()
    _oldest_unconfirmed.clear()
    for why, number in by_why.items():
        _gateways.labels(why).set(number)
    for connected, seconds in oldest.items():
        _oldest_unconfirmed.labels("yes" if connected else "no").set(seconds)


class DatabaseUse:
    """One use of a connection to the database, waiting for it included."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._began = False

    def begin(self) -> None:
        """Note that the connection is there."""
        now = time.monotonic()
        _database_wait.observe(now - self._since)
        _database_in_use.inc()
        self._since, self._began = now, True

    def end(self) -> None:
        """Note that it is given back; nothing, where it never came."""
        if self._began:
            _database_use.observe(time.monotonic() - self._since)
            _database_in_use.dec()


def watch(
    *,
    connections: Callable[[], int],
    behind: Callable[[], int],
    alarms: Callable[[], int],
    queued: Callable[[], int],
    wakeups: Callable[[], bool],
) -> None:
    """Read these whenever the metrics are asked for."""
    _connections.set_function(connections)
    _behind.set_function(behind)
    _alarms.set_function(alarms)
    _queued.set_function(queued)
    _wakeups.set_function(wakeups)
