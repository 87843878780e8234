"""Parking in any database: the statements differ, what is done with them does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from gatecast.events import Action, Event
from gatecast.storage.contract import (
    Database,
    Entity,
    EventLog,
    OutcomeKind,
    ParkedEntity,
    Row,
    Transaction,
    Withheld,
)
from gatecast.storage.queries import Queries

#: Events that are published again in one statement.
_CHUNK = 50


class StoredParking:
    """Entities that wait for a decision, by what the outcomes say."""

    def __init__(self, database: Database, log: EventLog, queries: Queries) -> None:
        self._database = database
        self._log = log
        self._queries = queries

    async def withheld(self, gateway_id: str, replica: str, *, after: int) -> Withheld:
        """What a connection that begins behind `after`, and is recorded, must not be sent."""
        parked, decided = _entities(await self._database.fetch(self._queries["entities"], gateway_id, replica))
        if decided - parked:
            await self._release(gateway_id, replica)
            parked, _ = _entities(await self._database.fetch(self._queries["entities"], gateway_id, replica))
        rows = await self._database.fetch(self._queries["settled"], gateway_id, replica, after)
        return Withheld(parked=frozenset(parked), settled=frozenset(row["offset"] for row in rows))

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """At most `limit` entities whose rejected events lie behind `after`, by offset."""
        rows = await self._database.fetch(self._queries["parked"], gateway_id, after, limit)
        return [_parked(row) for row in rows]

    async def gateways_with_parked(self, gateway_ids: Sequence[str]) -> frozenset[str]:
        """Those of these gateways that have rejected something that waits for a decision."""
        rows = await self._database.fetch(self._queries["gateways_with_parked"], json.dumps(list(gateway_ids)))
        return frozenset(row["gateway_id"] for row in rows)

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide; False when the entity is not parked."""
        kind = OutcomeKind.RETRIED if retry else OutcomeKind.SKIPPED
        async with self._database.transaction() as transaction:
            # The lock: whoever releases sees this decision as a whole, or not at all.
            await transaction.fetch(self._queries["lock_log"], gateway_id)
            if not await transaction.execute(self._queries["resolve"], gateway_id, replica, *entity, kind.value):
                return False
            await transaction.execute(self._queries["dismiss_replica"], gateway_id, replica)
        return True

    async def _release(self, gateway_id: str, replica: str) -> None:
        async with self._database.transaction() as transaction:
            for row in await transaction.fetch(self._queries["lock_log"], gateway_id):
                parked, decided = _entities(await transaction.fetch(self._queries["entities"], gateway_id, replica))
                for entity in sorted(decided - parked):
                    await self._publish_again(transaction, gateway_id, replica, entity, row)

    async def _publish_again(
        self, transaction: Transaction, gateway_id: str, replica: str, entity: Entity, log: Row
    ) -> None:
        """Publish the events of an entity once more, behind the head that the log had when it was locked."""
        rows = await transaction.fetch(self._queries["to_release"], log["log_id"], replica, *entity, log["head"])
        for begin in range(0, len(rows), _CHUNK):
            chunk = rows[begin : begin + _CHUNK]
            await self._log.publish_in(transaction, [_copy(gateway_id, row) for row in chunk])
            for row in chunk:
                await transaction.execute(self._queries["note_released"], log["log_id"], replica, row["offset"])
        await transaction.execute(self._queries["end_skips"], log["log_id"], replica, *entity)


def _entities(rows: Sequence[Row]) -> tuple[set[Entity], set[Entity]]:
    """Those of which something is parked, and those of which something is held or decided."""
    parked, decided = set[Entity](), set[Entity]()
    for row in rows:
        found = parked if row["kind"] == OutcomeKind.PARKED else decided
        found.add((row["entity_type"], row["entity_id"]))
    return parked, decided


def _copy(gateway_id: str, row: Row) -> Event:
    """The event once more; an instant that nobody can read is not passed on."""
    return Event.again(
        gateway_id=gateway_id,
        type=row["type"],
        action=Action(row["action"]),
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        payload=row["payload"],
        originated_at=_moment(row["originated_at"]) if row["originated_at"] else datetime.now(UTC),
        trace_parent=row["trace_parent"],
    )


def _parked(row: Row) -> ParkedEntity:
    return ParkedEntity(
        replica=row["replica"],
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        offset=row["offset"],
        event_id=UUID(str(row["event_id"])),
        reason=row["reason"],
        rejected_at=_moment(row["recorded_at"]),
        held=row["held"],
    )


def _moment(value: object) -> datetime:
    """SQLite keeps times as text."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone(UTC)
