"""Reads logs, inside a snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from uuid import UUID

from gatecast.events import RecordedEvent
from gatecast.storage.contract import Changes, ReadRequest, ReadResult
from gatecast.storage.recorded import recorded
from gatecast.storage.sqlite.publishing import QUERIES
from gatecast.storage.sqlite.statements import Columns, as_list, select, select_each
from gatecast.storage.sqlite.values import to_moment, to_readable_moment


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
        for size, event in (_recorded(request.gateway_id, row) for row in rows):
            left -= size
            if events and left < 0:
                break
            events.append(event)
    return events


def _recorded(gateway_id: str, row: Columns) -> tuple[int, RecordedEvent]:
    offset, event_id, type_, action, entity_type, entity_id, size, originated_at, recorded_at, trace_parent, payload = (
        row
    )
    return size, recorded(
        gateway_id=gateway_id,
        offset=offset,
        event_id=UUID(event_id),
        type=type_,
        action=action,
        entity_type=entity_type,
        entity_id=entity_id,
        payload=payload,
        originated_at=to_readable_moment(originated_at),
        recorded_at=to_moment(recorded_at),
        trace_parent=trace_parent,
    )
