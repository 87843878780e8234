"""Reads logs, inside a snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from uuid import UUID

from gatecast.events import RecordedEvent
from gatecast.storage.contract import Changes, ReadRequest, ReadResult
from gatecast.storage.rows import recorded_event
from gatecast.storage.sqlite.publishing import QUERIES
from gatecast.storage.sqlite.statements import as_list, select, select_each


def changed_since(connection: sqlite3.Connection, marker: int) -> Changes:
    """The logs that grew behind the change number `marker`."""
    [(epoch, last_change)] = select(connection, QUERIES["epoch"])
    # A marker of the future was taken before the file was restored: look at everything.
    since = marker if marker <= last_change else 0
    heads: dict[str, int] = dict(select(connection, QUERIES["changed_since"], since))
    return Changes(epoch=UUID(epoch), heads=heads, marker=last_change)


def read_logs(connection: sqlite3.Connection, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
    """The next events for each request."""
    rows = select(connection, QUERIES["streams"], as_list({request.gateway_id for request in requests}))
    streams = {gateway_id: (head, trimmed_through) for gateway_id, head, trimmed_through in rows}
    [(epoch, _)] = select(connection, QUERIES["epoch"])
    return [_read_log(connection, request, UUID(epoch), streams.get(request.gateway_id)) for request in requests]


def _read_log(
    connection: sqlite3.Connection, request: ReadRequest, epoch: UUID, stream: tuple[int, int] | None
) -> ReadResult | None:
    if stream is None:
        return None
    head, trimmed_through = stream
    events = _events_behind(connection, request) if head > request.after else []
    return ReadResult(events=events, epoch=epoch, head=head, trimmed_through=trimmed_through)


def _events_behind(connection: sqlite3.Connection, request: ReadRequest) -> list[RecordedEvent]:
    events: list[RecordedEvent] = []
    left = request.max_bytes
    rows = select_each(connection, QUERIES["events_behind"], request.gateway_id, request.after, request.max_events)
    with closing(rows):
        for row in (dict(zip(_COLUMNS, columns, strict=True)) for columns in rows):
            left -= row["size"]
            if events and left < 0:
                break
            events.append(recorded_event(request.gateway_id, row))
    return events


_COLUMNS = (
    "offset", "event_id", "type", "action", "entity_type", "entity_id", "size", "originated_at", "recorded_at",
    "trace_parent", "payload",
)  # fmt: skip
