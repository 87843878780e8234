"""When events passed each hop on their way to a gateway, recorded for many events at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias


class Hop(StrEnum):
    """The steps of an event from the log to the gateway's confirmation, in this order."""

    #: The pod that holds the gateway's connection has read it from the log.
    PICKED_UP = "picked-up"
    #: The pod has written it to the connection.
    SENT = "sent"
    #: The gateway has confirmed it.
    CONFIRMED = "confirmed"


class Passage(NamedTuple):
    """A run of consecutive events that passed one hop."""

    #: The run begins after this offset.
    after: int
    #: The offset of the last event.
    through: int
    #: When the first event passed, in seconds since 1970 by the database's clock.
    first: float
    #: When the last event passed, likewise.
    last: float


#: No event passed.
NOTHING = Passage(0, 0, 0.0, 0.0)

#: One passage for each hop, in the order of `Hop`; empty if none is known.
Passages: TypeAlias = tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Instant:
    """When one event passed a hop."""

    #: By the database's clock.
    at: datetime
    #: The event passed at most this many seconds before or after `at`; 0 if `at` was recorded for this event.
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The hops of one event over one connection."""

    connection_id: str
    #: Empty for unnamed clients.
    replica: str
    #: The pod that held the connection.
    pod_id: str
    #: The hops that it is known to have passed.
    hops: dict[Hop, Instant] = field(default_factory=dict)


def instant(passage: Passage, offset: int) -> Instant:
    """When the event at `offset`, which is in the passage, passed the hop.

    Exact for the first and the last event; estimated for those between, as if they had passed at equal intervals.
    """
    steps = passage.through - passage.after - 1
    step = offset - passage.after - 1
    length = max(0.0, passage.last - passage.first)
    at = passage.first + length * (step / steps if steps else 1.0)
    exact = step in (0, steps)
    return Instant(datetime.fromtimestamp(at, UTC), 0.0 if exact else length)


def deliveries(rows: Iterable[Mapping[str, Any]], offset: int) -> Sequence[Delivery]:
    """The deliveries of the event at `offset`, one for each connection, in the order of the connections' first rows."""
    found: dict[str, Delivery] = {}
    for row in rows:
        delivery = found.setdefault(
            row["connection_id"],
            Delivery(connection_id=row["connection_id"], replica=row["replica"], pod_id=row["pod_id"]),
        )
        for hop, passage in zip(Hop, _passages(row), strict=True):
            if passage.after < offset <= passage.through:
                delivery.hops.setdefault(hop, instant(passage, offset))
    return list(found.values())


def _passages(row: Mapping[str, Any]) -> Passages:
    return tuple(
        Passage(*(row[f"{hop.name.lower()}_{part}"] for part in ("after", "through", "first", "last"))) for hop in Hop
    )
