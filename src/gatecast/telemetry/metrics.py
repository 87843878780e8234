"""What a running pod counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

#: Every metric of this process.
registry = CollectorRegistry()

_delivered = Counter("gatecast_events_delivered", "Events handed to a socket.", registry=registry)
_confirmed = Counter("gatecast_events_confirmed", "Events that a gateway has confirmed.", registry=registry)


def delivered(events: int) -> None:
    """Count events that were handed to a socket."""
    _delivered.inc(events)


def confirmed(events: int) -> None:
    """Count events that a gateway has confirmed."""
    _confirmed.inc(max(0, events))
