"""Appends groups of events, inside a transaction that holds the write lock.

SQLite has one writer at a time. The transaction that holds the lock sees every earlier commit, and no other can number
events until it ends, so reading first and writing second is exact here: commit order is offset order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID, uuid4

from gatecast.errors import UnknownGateway
from gatecast.events import Event, Position
from gatecast.storage.contract import Busy, PublishResult, Receipt
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.statements import as_list, change_each, select

QUERIES = Queries("gatecast.storage.sqlite")

#: Gateway and event id: what makes an event unique.
_Key: TypeAlias = tuple[str, UUID]


def append(connection: sqlite3.Connection, groups: Sequence[Sequence[Event]], moment: str) -> list[PublishResult]:
    """The result of each group, which is appended whole or not at all; `moment` is the text of its recorded time."""
    if not any(groups):
        return [() for _ in groups]
    logs = _logs(connection, {event.gateway_id for group in groups for event in group})
    refusals = [_refusal(group, logs) for group in groups]
    accepted = [event for group, refusal in zip(groups, refusals, strict=True) if not refusal for event in group]
    numbering = _Numbering(logs, _known(connection, accepted))
    created = [numbering.place(event) for event in accepted]
    _store(connection, [event for event, new in zip(accepted, created, strict=True) if new], numbering, moment)
    receipts = _receipts(connection, accepted, created, numbering)
    return [refusal or tuple(next(receipts) for _ in group) for group, refusal in zip(groups, refusals, strict=True)]


def append_one_group(connection: sqlite3.Connection, events: Sequence[Event], moment: str) -> tuple[Receipt, ...]:
    """A receipt for each event of one group.

    Raises:
        UnknownGateway: a gateway is not registered; nothing was appended.
    """
    [result] = append(connection, [events], moment)
    if isinstance(result, UnknownGateway):
        raise result
    assert not isinstance(result, Busy)  # noqa: S101 - SQLite never answers that
    return result


@dataclass(slots=True)
class _Log:
    """The number of a log, and that of its last event."""

    log_id: int
    head: int


class _Numbering:
    """The offsets of events: the next one of its gateway for a new event, the stored one for a known event."""

    def __init__(self, logs: dict[str, _Log], known: dict[_Key, int]) -> None:
        self.logs = logs
        self.offsets = known

    def place(self, event: Event) -> bool:
        """Assign the event its offset; True if it is new."""
        key = (event.gateway_id, event.event_id)
        if key in self.offsets:
            return False
        log = self.logs[event.gateway_id]
        log.head += 1
        self.offsets[key] = log.head
        return True

    def offset_of(self, event: Event) -> int:
        """The offset of an event that was placed."""
        return self.offsets[event.gateway_id, event.event_id]


def next_change(connection: sqlite3.Connection) -> int:
    """The number of this transaction's change, newly assigned: higher than that of every change committed before."""
    [(number,)] = select(connection, QUERIES["next_change"], uuid4())
    return int(number)


def _logs(connection: sqlite3.Connection, gateways: Collection[str]) -> dict[str, _Log]:
    rows = select(connection, QUERIES["heads"], as_list(gateways))
    return {gateway_id: _Log(log_id, head) for gateway_id, log_id, head in rows}


def _refusal(group: Sequence[Event], logs: Mapping[str, _Log]) -> UnknownGateway | None:
    unknown = (event.gateway_id for event in group if event.gateway_id not in logs)
    return next(map(UnknownGateway, unknown), None)


def _known(connection: sqlite3.Connection, events: Sequence[Event]) -> dict[_Key, int]:
    wanted = as_list([event.gateway_id, str(event.event_id)] for event in events)
    rows = select(connection, QUERIES["known_events"], wanted)
    return {(gateway_id, UUID(event_id)): offset for gateway_id, event_id, offset in rows}


def _store(connection: sqlite3.Connection, events: Sequence[Event], numbering: _Numbering, moment: str) -> None:
    if not events:
        return
    last_ids = {event.gateway_id: event.event_id for event in events}
    number, logs = next_change(connection), numbering.logs
    change_each(
        connection,
        QUERIES["move_head"],
        ((gateway_id, logs[gateway_id].head, last_id, number) for gateway_id, last_id in last_ids.items()),
    )
    change_each(
        connection,
        QUERIES["insert_event"],
        (
            (logs[event.gateway_id].log_id, numbering.offset_of(event), *_columns(event, moment), number)
            for event in events
        ),
    )


def _columns(event: Event, moment: str) -> tuple[object, ...]:
    return (
        event.event_id,
        event.type,
        event.action.value,
        event.entity_type,
        event.entity_id,
        len(event.payload) if event.payload.isascii() else len(event.payload.encode()),
        event.originated_at,
        moment,
        event.trace_parent,
        event.payload,
    )


def _receipts(
    connection: sqlite3.Connection, events: Sequence[Event], created: Sequence[bool], numbering: _Numbering
) -> Iterator[Receipt]:
    [(current, _, _)] = select(connection, QUERIES["epoch"])
    epoch = UUID(current)
    for event, new in zip(events, created, strict=True):
        position = Position(epoch, numbering.offset_of(event))
        yield Receipt(gateway_id=event.gateway_id, event_id=event.event_id, position=position, created=new)
