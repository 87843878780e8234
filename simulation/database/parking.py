"""`gatecast.storage.contract.Parking` in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from gatecast.events import Event, RecordedEvent
from gatecast.storage.contract import (
    DeliveryFilter,
    DisconnectReason,
    Entity,
    OutcomeKind,
    ParkedEntity,
)
from simulation.database.link import Link
from simulation.database.rows import entity_of

if TYPE_CHECKING:
    from simulation.database.database import SimulatedDatabase


class SimulatedParking:
    """Entities that wait for a decision, as one pod reaches them."""

    def __init__(self, link: Link[SimulatedDatabase]) -> None:
        self._link = link
        self._database = link.database

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> DeliveryFilter:
        """What a connection must not be sent; what was decided is published again first."""
        if not parks:
            return DeliveryFilter()
        if await self._link.call(lambda: self._decided(gateway_id, replica)):
            await self._release(gateway_id, replica)
        key = (gateway_id, replica)
        parked = await self._link.call(lambda: self._database.rows.entities(*key, OutcomeKind.PARKED))
        settled = await self._link.call(lambda: self._settled(*key, after))
        return DeliveryFilter(parked=frozenset(parked), settled=frozenset(settled))

    def _decided(self, gateway_id: str, replica: str) -> list[Entity]:
        rows = self._database.rows
        parked = rows.entities(gateway_id, replica, OutcomeKind.PARKED)
        decided = rows.entities(gateway_id, replica, OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED)
        return sorted(decided.keys() - parked.keys())

    def _settled(self, gateway_id: str, replica: str, after: int) -> list[int]:
        return [
            offset
            for (name, whose, offset), kind in self._database.rows.outcomes.items()
            if (name, whose) == (gateway_id, replica)
            and kind in (OutcomeKind.RELEASED, OutcomeKind.REJECTED)
            and offset > after
        ]

    async def _release(self, gateway_id: str, replica: str) -> None:
        await self._link.travel()
        await self._database.lock([gateway_id])
        xid = self._database.begin()
        try:
            await self._link.travel()
            for entity in self._decided(gateway_id, replica):
                self._publish_again(xid, gateway_id, replica, entity)
        finally:
            self._database.end(xid)
            self._database.unlock([gateway_id])
        await self._link.travel()

    def _publish_again(self, xid: int, gateway_id: str, replica: str, entity: Entity) -> None:
        """In one instant: the world sees all of it, or nothing."""
        rows = self._database.rows
        events, outcomes = rows.streams[gateway_id].events, rows.outcomes
        kinds = {
            offset: outcomes.get((gateway_id, replica, offset))
            for offset, event in sorted(events.items())
            if entity_of(event) == entity
        }
        first = min(
            offset + 1 if kind is OutcomeKind.SKIPPED else offset
            for offset, kind in kinds.items()
            if kind in (OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED)
        )
        left_out = (OutcomeKind.RELEASED, OutcomeKind.SKIPPED, OutcomeKind.REJECTED)
        again = [offset for offset, kind in kinds.items() if offset >= first and kind not in left_out]
        self._database.commit(xid, [copy_of(events[offset], self._database.uuid()) for offset in again])
        outcomes |= {(gateway_id, replica, offset): OutcomeKind.RELEASED for offset in again}
        skipped = [offset for offset, kind in kinds.items() if kind is OutcomeKind.SKIPPED]
        outcomes |= {(gateway_id, replica, offset): OutcomeKind.REJECTED for offset in skipped}

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """Not simulated."""
        raise TypeError(gateway_id, after, limit)

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide about an entity."""

        def decide() -> bool:
            rows = self._database.rows
            events = rows.streams[gateway_id].events
            parked = [
                key
                for key, kind in rows.outcomes.items()
                if key[:2] == (gateway_id, replica)
                and kind is OutcomeKind.PARKED
                and entity_of(events[key[2]]) == entity
            ]
            for key in parked:
                rows.outcomes[key] = OutcomeKind.RETRIED if retry else OutcomeKind.SKIPPED
                if not retry:
                    self._database.history.skipped(gateway_id, events[key[2]])
            for row in rows.connections.values():
                if parked and (row.connection.gateway_id, row.connection.replica) == (gateway_id, replica):
                    row.dismissal = row.dismissal or DisconnectReason.RESTARTING
            return bool(parked)

        await self._link.travel()
        await self._database.lock([gateway_id])
        try:
            return await self._link.call(decide)
        finally:
            self._database.unlock([gateway_id])


def copy_of(event: RecordedEvent, event_id: UUID) -> Event:
    """What is published when an event is published again."""
    return Event(
        gateway_id=event.gateway_id,
        type=event.type,
        action=event.action,
        entity_type=event.entity_type,
        entity_id=event.entity_id,
        data=event.data,
        event_id=event_id,
        originated_at=event.originated_at,
    )
