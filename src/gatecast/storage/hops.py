"""When events passed each hop on their way to a gateway, told for many events at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias


class Hop(StrEnum):
    """What happens to an event between its record and what the gateway says of it, in this order."""

    #: The pod that holds the gateway's connection has read it from the log.
    PICKED_UP = "picked-up"
    #: The pod has written it to the connection.
    SENT = "sent"
    #: The gateway has confirmed it.
    CONFIRMED = "confirmed"


class Passage(NamedTuple):
    """Events that passed one hop, one after the other."""

    #: They begin after this offset …
    after: int
    #: … and end with this one.
    through: int
    #: When the first of them passed: seconds since 1970 by the database's clock.
    first: float
    #: When the last of them passed.
    last: float


#: No event passed.
NOTHING = Passage(0, 0, 0.0, 0.0)

#: One passage for each hop, in the order of `Hop`; empty: it is not known.
Passages: TypeAlias = tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Instant:
    """When one event passed a hop."""

    #: By the database's clock.
    at: datetime
    #: The event passed at most this many seconds before or after `at`; 0 where the instant was noted for it alone.
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The way of one event over one connection."""

    connection_id: str
    #: Empty for unnamed clients.
    replica: str
    #: The pod that held the connection.
    pod_id: str
    #: The hops that it is known to have passed.
    hops: dict[Hop, Instant] = field(default_factory=dict)


def instant(passage: Passage, offset: int) -> Instant:
    """When the event at `offset` passed.

    The first and the last event of a passage are known exactly; those in between passed one after the other.
    """
    steps = passage.through - passage.after - 1
    step = offset - passage.after - 1
    length = max(0.0, passage.last - passage.first)
    at = passage.first + length * (step / steps if steps else 1.0)
    exact = step in (0, steps)
    return Instant(datetime.fromtimestamp(at, UTC), 0.0 if exact else length)


def deliveries(rows: Iterable[Mapping[str, Any]], offset: int) -> Sequence[Delivery]:
    """The ways of the event at `offset`, in the order in which their connections are first told of."""
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
