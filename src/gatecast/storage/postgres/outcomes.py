"""What gateways said of single events, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from gatecast.storage.contract import Outcome, OutcomeKind, Row
from gatecast.storage.hops import Delivery, deliveries
from gatecast.storage.postgres.appending import QUERIES
from gatecast.storage.postgres.database import PostgresDatabase


class PostgresOutcomes:
    """The last word of each gateway on each event."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes; of an event that is not in the log (any more) nothing is stored."""
        await self._database.fetch(
            QUERIES["record_outcomes"],
            [outcome.gateway_id for outcome in outcomes],
            [outcome.replica for outcome in outcomes],
            [outcome.offset for outcome in outcomes],
            [outcome.kind for outcome in outcomes],
            [outcome.reason for outcome in outcomes],
        )

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events, of every replica, in offset order."""
        rows = await self._database.fetch(QUERIES["outcomes_of_events"], gateway_id, list(offsets))
        return [_outcome(row) for row in rows]

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """The outcomes of events of many gateways, as they were recorded."""
        gateways, offsets = [gateway_id for gateway_id, _ in events], [offset for _, offset in events]
        return [_outcome(row) for row in await self._database.fetch(QUERIES["outcomes_of_many"], gateways, offsets)]

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """The way of this event over each connection that has picked it up."""
        return deliveries(await self._database.fetch(QUERIES["deliveries"], gateway_id, offset), offset)


def _outcome(row: Row) -> Outcome:
    return Outcome(
        gateway_id=row["gateway_id"],
        replica=row["replica"],
        offset=row["offset"],
        kind=OutcomeKind.read(row["kind"]),
        reason=row["reason"],
        recorded_at=row["recorded_at"],
    )
