"""Turns rows into values, for both databases: SQLite returns as text what PostgreSQL returns as a value.

A row of a log that cannot be read affects only its own log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from gatecast.events import Action, Position, RecordedEvent
from gatecast.events.event import recorded_quickly
from gatecast.storage.contract import LiveConnection, Outcome, OutcomeKind, PositionState, Row

#: Looking a member up here costs a tenth of a call of the class.
_ACTIONS = {action.value: action for action in Action}


#: In the order of the fields of `RecordedEvent`, after the gateway.
_COLUMNS = itemgetter(
    "offset",
    "event_id",
    "type",
    "action",
    "entity_type",
    "entity_id",
    "payload",
    "originated_at",
    "recorded_at",
    "trace_parent",
)


def recorded_event(gateway_id: str, row: Row) -> RecordedEvent:
    """The event in a row of a log; if a column cannot be read, a stand-in that is marked as undeliverable."""
    offset, event_id, kind, action, entity_type, entity_id, payload, originated_at, recorded_at, trace_parent = (
        _COLUMNS(row)
    )
    try:
        return recorded_quickly(
            gateway_id,
            offset,
            _uuid(event_id),
            _text(kind),
            _ACTIONS.get(action) or Action(action),
            _text(entity_type),
            _text(entity_id),
            _text(payload),
            to_moment(originated_at),
            to_moment(recorded_at),
            trace_parent,
        )
    except (ValueError, TypeError, OverflowError):
        return _stand_in(gateway_id, row)


def position_state(row: Row) -> PositionState:
    """The position state in a row."""
    position = row["cursor_epoch"]
    return PositionState(
        epoch=_uuid(row["epoch"]),
        head=row["head"],
        low_water_mark=row["trimmed_through"],
        confirmed=None if position is None else Position(_uuid(position), row["confirmed"]),
        registered_in=_uuid(row["registered_in"]),
        resync_reason=row["resync_reason"],
    )


def live_connection(row: Row) -> LiveConnection:
    """The connection in a row."""
    return LiveConnection(
        connection_id=row["connection_id"],
        pod_id=row["pod_id"],
        replica=row["replica"],
        protocol=row["protocol"],
        remote=row["remote"],
        connected_at=to_moment(row["connected_at"]),
        sent=row["connection_sent"],
        confirmed=row["connection_confirmed"],
    )


def outcome(row: Row) -> Outcome:
    """The outcome in a row."""
    return Outcome(
        gateway_id=row["gateway_id"],
        replica=row["replica"],
        offset=row["offset"],
        kind=OutcomeKind.read(row["kind"]),
        reason=row["reason"],
        recorded_at=to_moment(row["recorded_at"]),
    )


def to_moment(value: object) -> datetime:
    """The instant in UTC that a driver returned, as a datetime or, from SQLite, as ISO text.

    Raises:
        ValueError: the text is no instant, or the instant has no time zone.
        OverflowError: in UTC it is outside the years 1 to 9999.
        TypeError: the value is neither a datetime nor text.
    """
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return moment.astimezone(UTC)


def _stand_in(gateway_id: str, row: Row) -> RecordedEvent:
    """An undeliverable event with every column that can be read; its problem names those that cannot."""
    readable: dict[str, Any] = {}
    for name, read in _READERS.items():
        with suppress(ValueError, TypeError, OverflowError):
            readable[name] = read(row[name])
    problem = f"{', '.join(name for name in _READERS if name not in readable)} cannot be read"
    event = RecordedEvent.standing_in(gateway_id, row["offset"], problem)
    return replace(event, **readable | {"payload": "{}"})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _uuid(value: object) -> UUID:
    return value if isinstance(value, UUID) else UUID(_text(value))


_READERS: Mapping[str, Callable[[Any], object]] = {
    "event_id": _uuid,
    "type": _text,
    "action": Action,
    "entity_type": _text,
    "entity_id": _text,
    "payload": _text,
    "originated_at": to_moment,
    "recorded_at": to_moment,
}
