"""Answers questions about many gateways and long logs, the same on every database apart from the statements."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gatecast.errors import UnknownGateway
from gatecast.storage.contract import Database, DeliverySummary, EventSearch, FoundEvents, GatewayCount, Row
from gatecast.storage.queries import Queries
from gatecast.storage.row_values import recorded_event

#: Most events that one search looks at.
LOOKED_AT = 10_000


class StoredSurvey:
    """`gatecast.storage.contract.Survey`, from the tables of the event log."""

    def __init__(self, database: Database, queries: Queries) -> None:
        self._database = database
        self._queries = queries

    async def summaries(self, gateway_ids: Sequence[str]) -> list[DeliverySummary]:
        """The delivery summary of each registered gateway among these, at one instant."""
        rows = await self._database.fetch(self._queries["summaries"], json.dumps(list(gateway_ids)))
        return [_summary(row) for row in rows]

    async def counts(self, *, slow_after: float, except_for: str) -> list[GatewayCount]:
        """All registered gateways, counted by the database."""
        rows = await self._database.fetch(self._queries["counts"], slow_after, except_for)
        return [_count(row) for row in rows]

    async def beginning_with(self, prefix: str) -> list[str]:
        """The registered gateways whose ids begin with this."""
        return [row["gateway_id"] for row in await self._database.fetch(self._queries["beginning_with"], prefix)]

    async def latencies(self, gateway_ids: Sequence[str], *, since: float) -> list[float]:
        """How long some recently confirmed events took from record to confirmation, in seconds; 0 at least."""
        rows = await self._database.fetch(self._queries["latencies"], json.dumps(list(gateway_ids)), since)
        return [max(0.0, row["seconds"]) for row in rows]

    async def search(self, wanted: EventSearch, *, confirmed: int) -> FoundEvents:
        """The matching events among the newest 10,000 that are wanted, newest first."""
        first, last = await self._range(wanted)
        low = max(first, last - LOOKED_AT)
        rows = await self._database.fetch(
            self._queries["search"],
            wanted.gateway_id,
            low,
            last,
            wanted.type,
            wanted.entity_type,
            wanted.entity_id,
            wanted.state,
            confirmed,
            wanted.max_events,
            wanted.max_bytes,
        )
        events = [recorded_event(wanted.gateway_id, row) for row in rows]
        if rows and (len(rows) == wanted.max_events or len(rows) < rows[0]["matched"]):
            low = events[-1].offset - 1
        return FoundEvents(events, low + 1 if low > first else None)

    async def _range(self, wanted: EventSearch) -> tuple[int, int]:
        """Two offsets: only events after the first, up to and including the second, can match."""
        ends = await self._database.fetch(self._queries["ends"], wanted.gateway_id)
        if not ends:
            raise UnknownGateway(wanted.gateway_id)
        first, last = ends[0]["trimmed_through"], ends[0]["head"]
        if wanted.before is not None:
            last = min(last, wanted.before - 1)
        for instant, is_first in ((wanted.since, True), (wanted.until, False)):
            if instant is not None:
                [row] = await self._database.fetch(self._queries["recorded_before"], wanted.gateway_id, instant)
                first, last = (max(first, row["offset"]), last) if is_first else (first, min(last, row["offset"]))
        return first, last


def _count(row: Row) -> GatewayCount:
    return GatewayCount(
        gateways=row["gateways"],
        resynchronizing=bool(row["resynchronizing"]),
        parked=bool(row["parked"]),
        connected=bool(row["connected"]),
        lagging=bool(row["lagging"]),
        lag_seconds=row["lag_seconds"],
    )


def _summary(row: Row) -> DeliverySummary:
    return DeliverySummary(
        gateway_id=row["gateway_id"],
        head=row["head"],
        lag=row["lag"],
        lag_seconds=row["lag_seconds"],
        last_seen=row["last_seen"],
        resync_reason=row["resync_reason"],
        pods=tuple(row["pods"].split("\n")) if row["pods"] else (),
        parked=bool(row["parked"]),
    )
