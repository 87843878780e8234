"""The contract of parking: entities whose events wait for an operator's decision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

#: Type and id.
Entity: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """The delivery filter of a connection: the events that it must not receive."""

    #: Events of these entities wait, and are recorded as waiting before the position passes them.
    parked: frozenset[Entity] = frozenset()
    #: Offsets of events that were republished or left out.
    settled: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEntity:
    """An entity whose events wait at one replica, because that rejected one or cannot receive it."""

    replica: str
    entity_type: str
    entity_id: str
    #: Offset of the first rejected or undeliverable event, to which the next three fields belong, too.
    offset: int
    event_id: UUID
    reason: str
    rejected_at: datetime
    #: How many later events wait with it, including later rejected ones.
    held: int
    #: True if the first event was not rejected but cannot be delivered.
    undeliverable: bool = False


class Parking(Protocol):
    """Entities of which a client of `gatecast.v2` rejected an event: they wait for a decision; other entities flow.

    A decision changes only outcomes, and disconnects the replica. The events that it releases are republished when the
    replica connects: every event of the entity after the rejected one, up to the head, in order, as new events, under
    the lock of the log. So no older event overtakes a newer one of the same entity, whichever events waited or were on
    their way when the decision was taken, and whether or not it was stored that they wait.
    """

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> DeliveryFilter:
        """The delivery filter of a recorded connection that begins after `after`.

        First republishes, in one transaction, the waiting events of entities that are no longer parked. For a
        connection that cannot park (`parks=False`), the filter holds only the undeliverable events that are left out,
        and those to be tried again are forgotten: its log waits at them, so they are sent anyway.
        """

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """At most `limit` entities whose rejected events come after `after`, by offset."""

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide to try the rejected event again (`retry`) or to leave it out; both release the waiting events.

        False if the entity is not parked: of two decisions at the same time, one counts.
        """
