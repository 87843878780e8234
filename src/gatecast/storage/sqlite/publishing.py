"""Appends groups of events, inside a transaction that holds the write lock.

SQLite has one writer at a time. The transaction that holds the lock sees every earlier commit, and no other can number
events until it ends, so reading first and writing second is exact here: commit order is offset order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple, TypeAlias
from uuid import UUID, uuid4

from gatecast.errors import UnknownGateway
from gatecast.events import Event, Position
from gatecast.storage.contract import Busy, PublishResult, Receipt
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.statements import as_list, change_each, select
from gatecast.storage.sqlite.values import to_text

QUERIES = Queries("gatecast.storage.sqlite")

#: The offset of an event, and whether it is new.
_Placed: TypeAlias = tuple[int, bool]


def append(
    connection: sqlite3.Connection,
    groups: Sequence[Sequence[Event]],
    moment: str,
    logs: Mapping[str, int] | None = None,
) -> list[PublishResult]:
    """The result of each group, which is appended whole or not at all; `moment` is the text of its recorded time.

    For a gateway in `logs`, only that log counts.
    """
    if not any(groups):
        return [() for _ in groups]
    found = iter(_look_up(connection, list(chain.from_iterable(groups))))
    numbering = _Numbering(logs or {})
    placed = [numbering.place(list(islice(found, len(group)))) for group in groups]
    _store(connection, numbering, moment)
    epoch = _epoch(connection)
    return [
        result if isinstance(result, UnknownGateway) else tuple(_receipts(epoch, group, result))
        for group, result in zip(groups, placed, strict=True)
    ]


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


def next_change(connection: sqlite3.Connection) -> int:
    """The number of this transaction's change, newly assigned: higher than that of every change committed before."""
    [(number,)] = select(connection, QUERIES["next_change"], uuid4())
    return int(number)


class _Found(NamedTuple):
    """An event, and what the database knows of it."""

    event: Event
    #: The event's id, as it is stored.
    event_id: str
    #: The log of its gateway; None: the gateway is not registered.
    log_id: int | None
    #: The offset of the last event in that log.
    head: int
    #: The offset at which the event is in the log already.
    known: int | None


def _look_up(connection: sqlite3.Connection, events: Sequence[Event]) -> list[_Found]:
    """What the log has of each event, in order, by one statement."""
    ids = [str(event.event_id) for event in events]
    wanted = as_list([event.gateway_id, event_id] for event, event_id in zip(events, ids, strict=True))
    rows = select(connection, QUERIES["look_up"], wanted)
    return [_Found(events[number], ids[number], *row) for number, *row in rows]


@dataclass(slots=True)
class _Log:
    """A log that grows."""

    log_id: int
    #: The offset of its last event, and the id of that one.
    head: int
    last_event_id: str = ""


class _Numbering:
    """The offsets of events: the next one of its gateway for a new event, the stored one for a known event."""

    def __init__(self, expected: Mapping[str, int]) -> None:
        #: The only log that a gateway may have, by gateway.
        self._expected = expected
        #: The logs that grow, by gateway.
        self.logs: dict[str, _Log] = {}
        #: The new events, in order, with their logs and offsets.
        self.created: list[tuple[_Found, int, int]] = []
        #: Offsets of the new events, by gateway and id.
        self._offsets: dict[tuple[str, str], int] = {}

    def place(self, group: Sequence[_Found]) -> list[_Placed] | UnknownGateway:
        """The offset of each event of the group; none of them gets one if a gateway does not have its log."""
        for found in group:
            gateway_id = found.event.gateway_id
            if found.log_id is None or found.log_id != self._expected.get(gateway_id, found.log_id):
                return UnknownGateway(gateway_id)
        return [self._place(found, found.log_id) for found in group if found.log_id is not None]

    def _place(self, found: _Found, log_id: int) -> _Placed:
        gateway_id = found.event.gateway_id
        key = (gateway_id, found.event_id)
        if (offset := self._offsets.get(key, found.known)) is not None:
            return offset, False
        log = self.logs.get(gateway_id)
        if log is None:
            log = self.logs[gateway_id] = _Log(log_id, found.head)
        log.head += 1
        log.last_event_id = found.event_id
        self._offsets[key] = log.head
        self.created.append((found, log_id, log.head))
        return log.head, True


def _store(connection: sqlite3.Connection, numbering: _Numbering, moment: str) -> None:
    if not numbering.created:
        return
    number = next_change(connection)
    change_each(
        connection,
        QUERIES["move_head"],
        ((log.head, log.last_event_id, number, gateway_id) for gateway_id, log in numbering.logs.items()),
    )
    change_each(
        connection,
        QUERIES["insert_event"],
        (
            (log_id, offset, found.event_id, *_columns(found.event, moment), number)
            for found, log_id, offset in numbering.created
        ),
    )


def _columns(event: Event, moment: str) -> tuple[object, ...]:
    return (
        event.type,
        event.action.value,
        event.entity_type,
        event.entity_id,
        len(event.payload) if event.payload.isascii() else len(event.payload.encode()),
        to_text(event.originated_at),
        moment,
        event.trace_parent,
        event.payload,
    )


def _epoch(connection: sqlite3.Connection) -> UUID:
    [(current, _, _)] = select(connection, QUERIES["epoch"])
    return UUID(current)


def _receipts(epoch: UUID, events: Sequence[Event], placed: Sequence[_Placed]) -> Iterator[Receipt]:
    for event, (offset, created) in zip(events, placed, strict=True):
        position = Position(epoch, offset)
        yield Receipt(gateway_id=event.gateway_id, event_id=event.event_id, position=position, created=created)
