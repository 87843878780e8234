"""Reads logs inside a snapshot: everything in one call is from the same instant."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from gatecast.events import Position, RecordedEvent
from gatecast.storage.contract import Changes, Place, ReadRequest, ReadResult, Remembered
from gatecast.storage.row_values import recorded_event
from gatecast.storage.sqlite.history import remember
from gatecast.storage.sqlite.history_file import HistoryFile, UnitOfWork
from gatecast.storage.sqlite.publishing import QUERIES
from gatecast.storage.sqlite.statements import as_list, select, select_each

#: `Changes.server` if the file was put back to an older state.
REPLACED = "replaced"


def changed_since(connection: sqlite3.Connection, marker: int, *, file: HistoryFile, now: datetime) -> Changes:
    """The logs that have grown after the change number `marker`; writes the history file if that lags."""
    known = file.read()
    [(epoch, last_change, token)] = select(connection, QUERIES["epoch"])
    present = UnitOfWork(last_change, token)
    replaced = file.denies(known, present)
    if not replaced:
        remember(file, present)
    # A marker past the last change was taken before the file was restored: look at every log.
    since = marker if marker <= last_change else 0
    heads: dict[str, int] = dict(select(connection, QUERIES["changed_since"], since))
    return Changes(
        epoch=UUID(epoch),
        heads=heads,
        marker=last_change,
        server=REPLACED if replaced else "",
        settled=not replaced,
        answered_at=now.timestamp(),
        lasting=last_change,
    )


def places(connection: sqlite3.Connection, gateway_ids: Sequence[str], marker: int) -> dict[str, Place]:
    """How far each of these logs had grown when the change `marker` had been committed."""
    rows = select(connection, QUERIES["places"], as_list(gateway_ids), marker)
    return {
        gateway_id: Place(log_id, max(offset or 0, low_water_mark), offset is None and bool(trimmed_since))
        for gateway_id, log_id, offset, low_water_mark, trimmed_since in rows
    }


def find(connection: sqlite3.Connection, gateway_id: str, event_ids: Sequence[UUID]) -> dict[UUID, Position]:
    """Where those of these events are that are in the gateway's log, by id."""
    [(epoch, _, _)] = select(connection, QUERIES["epoch"])
    rows = select(connection, QUERIES["find"], gateway_id, as_list(map(str, event_ids)))
    return {UUID(event_id): Position(UUID(epoch), offset) for event_id, offset in rows}


def contradicts(connection: sqlite3.Connection, remembered: Sequence[Remembered]) -> bool:
    """Whether one of these events is no longer where it was read."""
    events = as_list([each.gateway_id, each.log_id, each.offset, _text(each.event_id)] for each in remembered)
    [(count,)] = select(connection, QUERIES["contradicted"], events)
    return bool(count)


def _text(event_id: UUID | None) -> str | None:
    return None if event_id is None else str(event_id)


def read_logs(
    connection: sqlite3.Connection, requests: Sequence[ReadRequest], *, file: HistoryFile
) -> list[ReadResult | None]:
    """The result of each request, in order; None where the gateway is not registered."""
    known = file.read()
    [(epoch, last_change, token)] = select(connection, QUERIES["epoch"])
    history = History(UUID(epoch), REPLACED if file.denies(known, UnitOfWork(last_change, token)) else "")
    rows = select(connection, QUERIES["streams"], as_list({request.gateway_id for request in requests}))
    streams = {gateway_id: stream for gateway_id, *stream in rows}
    return [_read_log(connection, request, history, streams.get(request.gateway_id)) for request in requests]


class History(NamedTuple):
    """The history that a snapshot belongs to, as `ReadResult` names it."""

    epoch: UUID
    server: str


def _read_log(
    connection: sqlite3.Connection, request: ReadRequest, history: History, stream: Sequence[Any] | None
) -> ReadResult | None:
    if stream is None:
        return None
    log_id, head, last_event_id, low_water_mark = stream
    return ReadResult(
        events=_events_behind(connection, request) if head > request.after else [],
        epoch=history.epoch,
        server=history.server,
        log_id=log_id,
        head=head,
        last_event_id=None if last_event_id is None else UUID(last_event_id),
        low_water_mark=low_water_mark,
    )


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
