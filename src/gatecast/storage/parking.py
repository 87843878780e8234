"""Parking, the same on every database apart from its statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from gatecast.errors import InvalidValue
from gatecast.events import Event, RecordedEvent
from gatecast.gathering import Gathered
from gatecast.storage.contract import (
    Database,
    DeliveryFilter,
    Entity,
    EventLog,
    OutcomeKind,
    ParkedEntity,
    Row,
    Transaction,
)
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.storage.row_values import recorded_event, to_moment
from gatecast.storage.rows import as_rows

#: Most events republished in one statement.
_CHUNK = 50


class StoredParking:
    """`gatecast.storage.contract.Parking`, from the stored outcomes."""

    def __init__(self, database: Database, log: EventLog, queries: Queries) -> None:
        self._database = database
        self._log = log
        self._queries = queries
        #: Whether there is anything to withhold: one question for all that connect at the same time.
        self._with_outcomes = Gathered[tuple[str, str, int], bool]("with-outcomes", self._have_outcomes)

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> DeliveryFilter:
        """The delivery filter of a recorded connection that begins after `after`.

        Republishes first what decisions have released; for a connection that cannot park, forgets those to be tried
        again instead.
        """
        if not await self._with_outcomes.ask((gateway_id, replica, after)):
            return DeliveryFilter()
        if not parks:
            return await self._left_out(gateway_id, replica, after)
        parked, decided = _entities(await self._database.fetch(self._queries["entities"], gateway_id, replica))
        if decided - parked:
            await self._release(gateway_id, replica)
            parked, _ = _entities(await self._database.fetch(self._queries["entities"], gateway_id, replica))
        rows = await self._database.fetch(self._queries["settled"], gateway_id, replica, after)
        return DeliveryFilter(parked=frozenset(parked), settled=frozenset(row["offset"] for row in rows))

    async def _have_outcomes(self, replicas: Sequence[tuple[str, str, int]]) -> list[bool]:
        wanted = [
            {"gateway": gateway_id, "replica": replica, "after": after} for gateway_id, replica, after in replicas
        ]
        found = {row["key"] for row in await self._database.fetch(self._queries["with_outcomes"], as_rows(wanted))}
        return [str(number) in found for number in range(len(replicas))]

    async def _left_out(self, gateway_id: str, replica: str, after: int) -> DeliveryFilter:
        rows = await self._database.fetch(self._queries["left_out"], gateway_id, replica, after)
        if any(row["kind"] == OutcomeKind.RETRIED for row in rows):
            await self._database.execute(self._queries["try_again"], gateway_id, replica, after)
        return DeliveryFilter(settled=frozenset(row["offset"] for row in rows if row["kind"] == OutcomeKind.OMITTED))

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """At most `limit` entities whose rejected events come after `after`, by offset."""
        rows = await self._database.fetch(self._queries["parked"], gateway_id, after, limit)
        return [_parked(row) for row in rows]

    @whole
    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Store the decision about a parked entity and disconnect its replica; False if the entity is not parked."""
        kinds = (OutcomeKind.RETRIED,) * 2 if retry else (OutcomeKind.SKIPPED, OutcomeKind.OMITTED)
        async with self._database.transaction() as transaction:
            # The lock of the log: `_release` sees this decision as a whole, or not at all.
            await transaction.fetch(self._queries["lock_log"], gateway_id)
            if not await transaction.execute(self._queries["resolve"], gateway_id, replica, *entity, *map(str, kinds)):
                return False
            await transaction.execute(self._queries["dismiss_replica"], gateway_id, replica)
        return True

    @whole
    async def _release(self, gateway_id: str, replica: str) -> None:
        async with self._database.transaction() as transaction:
            for row in await transaction.fetch(self._queries["lock_log"], gateway_id):
                parked, decided = _entities(await transaction.fetch(self._queries["entities"], gateway_id, replica))
                for entity in sorted(decided - parked):
                    await self._publish_again(transaction, gateway_id, replica, entity, row)

    async def _publish_again(
        self, transaction: Transaction, gateway_id: str, replica: str, entity: Entity, log: Row
    ) -> None:
        """Republish the waiting events of an entity, after the head that the log had when it was locked."""
        rows = await transaction.fetch(self._queries["to_release"], log["log_id"], replica, *entity, log["head"])
        copies, problem = copies_of(recorded_event(gateway_id, row) for row in rows)
        for begin in range(0, len(copies), _CHUNK):
            await self._log.publish_in(transaction, copies[begin : begin + _CHUNK])
        for row in rows[: len(copies)]:
            await transaction.execute(self._queries["note_released"], log["log_id"], replica, row["offset"])
        if problem:
            where = (log["log_id"], replica, rows[len(copies)]["offset"])
            await transaction.execute(self._queries["note_undeliverable"], *where, problem)
        await transaction.execute(self._queries["end_skips"], log["log_id"], replica, *entity)


def _entities(rows: Sequence[Row]) -> tuple[set[Entity], set[Entity]]:
    """The entities with a parked or undeliverable event, and those with a waiting or decided one."""
    parked, decided = set[Entity](), set[Entity]()
    for row in rows:
        found = parked if row["kind"] in (OutcomeKind.PARKED, OutcomeKind.UNDELIVERABLE) else decided
        found.add((row["entity_type"], row["entity_id"]))
    return parked, decided


def copies_of(events: Iterable[RecordedEvent]) -> tuple[list[Event], str]:
    """Copies of the events before the first that cannot be delivered, and what is wrong with that one, if any."""
    copies: list[Event] = []
    for event in map(RecordedEvent.checked, events):
        if event.undeliverable is not None:
            return copies, event.undeliverable
        try:
            copies.append(_copy(event))
        except InvalidValue as problem:
            return copies, f"{problem.field} must {problem.rule}"
    return copies, ""


def _copy(event: RecordedEvent) -> Event:
    return Event.again(
        gateway_id=event.gateway_id,
        type=event.type,
        action=event.action,
        entity_type=event.entity_type,
        entity_id=event.entity_id,
        payload=event.payload,
        originated_at=event.originated_at,
        trace_parent=event.trace_parent,
    )


def _parked(row: Row) -> ParkedEntity:
    return ParkedEntity(
        replica=row["replica"],
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        offset=row["offset"],
        event_id=UUID(str(row["event_id"])),
        reason=row["reason"],
        rejected_at=to_moment(row["recorded_at"]),
        held=row["held"],
        undeliverable=row["kind"] == OutcomeKind.UNDELIVERABLE,
    )
