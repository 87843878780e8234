"""Which gateways lost events that the control plane cannot publish again.

A gateway whose position cannot be continued is brought up to date by republishing what the control plane wants it to
have. That is everything only if no other publisher used its log: an application's own events are gone. The log does not
record the publisher, and removed events cannot be examined. So the control plane counts its own events in the
transactions that publish them. A log longer than this count holds foreign events, from the admin API, the library, or
the SQL function.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from gatecast.errors import UnknownGateway
from gatecast.events import Event
from gatecast.hub import EventHub
from gatecast.storage.contract import Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.transactions", "foreign_events.sql")


async def count_own(transaction: Transaction, events: Iterable[Event], *, by: int = 1) -> None:
    """Note that events are published which the control plane can publish again.

    Before they are published: the rows of gateways are locked before their logs.
    """
    counts = Counter(event.gateway_id for event in events)
    await transaction.fetch(_QUERIES["lock_to_count"], as_keys(counts))
    rows = {gateway_id: {"count": by * count} for gateway_id, count in counts.items()}
    await transaction.execute(_QUERIES["count_own_events"], json.dumps(rows))


async def mark_unlisted(transaction: Transaction, gateway_id: str, reason: str) -> None:
    """Note that the gateway may run what the control plane does not know, and cannot name it; empty: it does not."""
    await transaction.execute(_QUERIES["mark_unlisted"], gateway_id, reason)


class ForeignEvents:
    """Foreign events that gateways lost for good, until an operator declares them recovered."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.database

    async def note(self, gateway_id: str, reason: str) -> bool:
        """Record a loss (`reason` as in `Start.lost`); return False if everything could be republished.

        Also if an operator has declared meanwhile that the gateway has everything: that was said of this loss.

        Raises:
            UnknownGateway: the gateway was deleted.
            StorageUnavailable: the database is away.
        """
        if await self._has_own_events_only(gateway_id) or await self._was_declared_recovered(gateway_id):
            return False
        await self._mark(gateway_id, reason)
        return True

    async def made_good(self, gateway_id: str) -> None:
        """Record that the gateway has again everything it needs, and nothing unknown."""
        await self._mark(gateway_id, "")
        await self._database.execute(_QUERIES["mark_unlisted"], gateway_id, "")

    async def _mark(self, gateway_id: str, reason: str) -> None:
        await self._database.execute(_QUERIES["mark_unrestored"], gateway_id, reason)

    async def _has_own_events_only(self, gateway_id: str) -> bool:
        """Count first and look at the log second: what comes in between makes the log longer, never the count."""
        counted = await self._own_events(gateway_id)
        while True:
            published = await self._hub.events_published(gateway_id)
            before, counted = counted, await self._own_events(gateway_id)
            if counted == before:
                return published == counted

    async def _was_declared_recovered(self, gateway_id: str) -> bool:
        # Unmodified gateways have one position, without a name.
        standing = await self._hub.engine.presence.standing(gateway_id, "")
        return standing.confirmed is not None and standing.resync_reason is None

    async def _own_events(self, gateway_id: str) -> int:
        for row in await self._database.fetch(_QUERIES["own_events"], gateway_id):
            return int(row["own_events"])
        raise UnknownGateway(gateway_id)
