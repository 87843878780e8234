"""Appends groups of events, inside a transaction that holds the write lock.

SQLite has one writer at a time. The transaction that holds the lock sees every earlier commit, and no other can number
events until it ends, so reading first and writing second is exact here: commit order is offset order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
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
    heads = _heads(connection, {event.gateway_id for group in groups for event in group})
    refusals = [_refusal(group, heads) for group in groups]
    accepted = [event for group, refusal in zip(groups, refusals, strict=True) if not refusal for event in group]
    numbering = _Numbering(heads, _known(connection, accepted))
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


class _Numbering:
    """The offsets of events: the next one of its gateway for a new event, the stored one for a known event."""

    def __init__(self, heads: dict[str, int], known: dict[_Key, int]) -> None:
        self.heads = heads
        self.offsets = known

    def place(self, event: Event) -> bool:
        """Assign the event its offset; True if it is new."""
        key = (event.gateway_id, event.event_id)
        if key in self.offsets:
            return False
        self.heads[event.gateway_id] += 1
        self.offsets[key] = self.heads[event.gateway_id]
        return True

    def offset_of(self, event: Event) -> int:
        """The offset of an event that was placed."""
        return self.offsets[event.gateway_id, event.event_id]


def next_change(connection: sqlite3.Connection) -> int:
    """The number of this transaction's change, newly assigned: higher than that of every change committed before."""
    [(number,)] = select(connection, QUERIES["next_change"], uuid4())
    return int(number)


def _heads(connection: sqlite3.Connection, gateways: Collection[str]) -> dict[str, int]:
    return dict(select(connection, QUERIES["heads"], as_list(gateways)))


def _refusal(group: Sequence[Event], heads: dict[str, int]) -> UnknownGateway | None:
    unknown = (event.gateway_id for event in group if event.gateway_id not in heads)
    return next(map(UnknownGateway, unknown), None)


def _known(connection: sqlite3.Connection, events: Sequence[Event]) -> dict[_Key, int]:
    wanted = as_list([event.gateway_id, str(event.event_id)] for event in events)
    rows = select(connection, QUERIES["known_events"], wanted)
    return {(gateway_id, UUID(event_id)): offset for gateway_id, event_id, offset in rows}


def _store(connection: sqlite3.Connection, events: Sequence[Event], numbering: _Numbering, moment: str) -> None:
    if not events:
        return
    last_ids = {event.gateway_id: event.event_id for event in events}
    number = next_change(connection)
    change_each(
        connection,
        QUERIES["move_head"],
        ((gateway_id, numbering.heads[gateway_id], last_id, number) for gateway_id, last_id in last_ids.items()),
    )
    change_each(
        connection, QUERIES["insert_event"], (_columns(event, numbering.offset_of(event), moment) for event in events)
    )


def _columns(event: Event, offset: int, moment: str) -> tuple[object, ...]:
    return (
        event.gateway_id,
        offset,
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
