"""The usual way to publish, to compare with: five round trips for each event.

BEGIN; insert the gateway's row if absent; insert the event; raise the gateway's version; COMMIT. It runs on the same
driver, the same tuned pool and the same durability as everything else here, with prepared statements, and its tables
carry what its readers need and no more. What it does not do: refuse unknown gateways, number events in commit order,
recognize an event id that was published before, wake anybody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from gatecast.events import Event
from gatecast.storage.contract import Database
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.cli.bench", "baseline.sql")


class Baseline:
    """Publishes in the usual way."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database) -> AsyncIterator[Self]:
        """Make its tables; drop them afterwards."""
        design = cls(database)
        await design._drop()
        async with database.transaction() as transaction:
            for name in ("create_gateways", "create_events", "create_index"):
                await transaction.execute(_QUERIES[name])
        try:
            yield design
        finally:
            await design._drop()

    async def publish(self, event: Event) -> None:
        """Store one event and return after the commit."""
        async with self._database.transaction() as transaction:
            await transaction.execute(_QUERIES["insert_gateway_if_absent"], event.gateway_id)
            await transaction.execute(
                _QUERIES["insert_event"],
                str(event.event_id),
                event.gateway_id,
                event.type,
                event.action,
                event.entity_type,
                event.entity_id,
                event.payload,
            )
            await transaction.execute(_QUERIES["raise_version"], event.gateway_id)

    async def _drop(self) -> None:
        async with self._database.transaction() as transaction:
            await transaction.execute(_QUERIES["drop_gateways"])
            await transaction.execute(_QUERIES["drop_events"])
