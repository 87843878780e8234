"""Outcomes of single events on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from gatecast.storage.contract import Outcome
from gatecast.storage.hops import Delivery, deliveries
from gatecast.storage.postgres.appending import QUERIES
from gatecast.storage.postgres.database import PostgresDatabase
from gatecast.storage.row_values import outcome


class PostgresOutcomes:
    """`gatecast.storage.contract.Outcomes` on PostgreSQL."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes; outcomes of events that are not in the log are ignored."""
        await self._database.fetch(
            QUERIES["record_outcomes"],
            [each.gateway_id for each in outcomes],
            [each.replica for each in outcomes],
            [each.offset for each in outcomes],
            [each.kind for each in outcomes],
            [each.reason for each in outcomes],
        )

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events, of every replica, in offset order."""
        rows = await self._database.fetch(QUERIES["outcomes_of_events"], gateway_id, list(offsets))
        return [outcome(row) for row in rows]

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """The outcomes of events of many gateways, in the order they were recorded; at most 100 for each event."""
        gateways, offsets = [gateway_id for gateway_id, _ in events], [offset for _, offset in events]
        return [outcome(row) for row in await self._database.fetch(QUERIES["outcomes_of_many"], gateways, offsets)]

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """The hops of this event over each connection that picked it up."""
        return deliveries(await self._database.fetch(QUERIES["deliveries"], gateway_id, offset), offset)
