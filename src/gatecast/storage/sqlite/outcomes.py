"""Outcomes of single events on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gatecast.storage.contract import Outcome, OutcomeKind
from gatecast.storage.hops import Delivery, deliveries
from gatecast.storage.queries import Queries
from gatecast.storage.row_values import outcome
from gatecast.storage.sqlite.database import SqliteDatabase
from gatecast.storage.sqlite.statements import as_list, change_each, select_named

QUERIES = Queries("gatecast.storage.sqlite", "outcomes.sql")

#: Outcomes that show that the event was not applied: if retention has removed it, the replica must resynchronize.
_UNHANDLED = (OutcomeKind.PARKED, OutcomeKind.HELD, OutcomeKind.UNDELIVERABLE)


class SqliteOutcomes:
    """`gatecast.storage.contract.Outcomes` on SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes; outcomes of events that are not in the log are ignored."""
        await self._database.write(lambda connection: _record(connection, outcomes))

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events, of every replica, in offset order."""
        rows = await self._database.read(
            lambda connection: select_named(connection, QUERIES["of_events"], gateway_id, as_list(offsets))
        )
        return [outcome(row) for row in rows]

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """The outcomes of events of many gateways, in the order they were recorded; at most 100 for each event."""
        rows = await self._database.read(
            lambda connection: select_named(connection, QUERIES["of_many"], as_list(events))
        )
        return [outcome(row) for row in rows]

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """The hops of this event over each connection that picked it up."""
        rows = await self._database.read(
            lambda connection: select_named(connection, QUERIES["deliveries"], gateway_id, offset)
        )
        return deliveries(rows, offset)


def _record(connection: sqlite3.Connection, outcomes: Sequence[Outcome]) -> None:
    rows = [(one.gateway_id, one.offset, one.replica, one.kind.value, one.reason) for one in outcomes]
    change_each(connection, QUERIES["record"], rows)
    unhandled = [one for one in outcomes if one.kind in _UNHANDLED]
    for consequence in ("note_lost", "dismiss_loser"):
        change_each(connection, QUERIES[consequence], [(one.gateway_id, one.offset, one.replica) for one in unhandled])
