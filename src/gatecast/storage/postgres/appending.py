"""Appends groups of events on a connection of any driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gatecast.errors import UnknownGateway
from gatecast.events import Event, Position
from gatecast.storage.contract import Busy, PublishResult, Receipt, Row
from gatecast.storage.postgres.array_literals import array_literal
from gatecast.storage.queries import Queries

QUERIES = Queries("gatecast.storage.postgres")


class _Fetches(Protocol):
    async def fetch(self, query: str, *arguments: Any) -> list[Any]: ...  # noqa: ANN401 - the driver's own types
    async def fetchrow(self, query: str, *arguments: Any) -> Any: ...  # noqa: ANN401 - the driver's own types


async def append(
    connection: _Fetches, groups: Sequence[Sequence[Event]], *, wait: bool, hint: bool
) -> list[PublishResult]:
    """The result of each group, which is appended whole or not at all.

    With `wait`, waits for logs that other transactions hold; without it, their groups are `Busy`. With `hint`, pods are
    notified at the commit.
    """
    if not any(groups):
        return [() for _ in groups]
    if len(groups) == 1 and len(groups[0]) == 1:
        return [await _append_one(connection, groups[0][0], wait=wait, hint=hint)]
    rows = await connection.fetch(QUERIES["append_events"], *_as_arrays(groups), wait, hint)
    remaining = iter(rows)
    return [_result(group, [next(remaining) for _ in group]) for group in groups]


async def append_to(
    connection: _Fetches, groups: Sequence[Sequence[Event]], logs: Mapping[str, int], *, hint: bool
) -> list[PublishResult]:
    """The result of each group; a group has events of one gateway, and is appended to the log named for it.

    Waits for no log: groups of a log that another transaction holds are `Busy`.
    """
    if not any(groups):
        return [() for _ in groups]
    named = array_literal([logs[event.gateway_id] for group in groups for event in group])
    rows = iter(await connection.fetch(QUERIES["append_events_to_logs"], *_as_arrays(groups), hint, named))
    return [_result(group, [next(rows) for _ in group]) for group in groups]


async def append_one_group(connection: _Fetches, events: Sequence[Event], *, hint: bool = True) -> tuple[Receipt, ...]:
    """A receipt for each event of one group; waits for logs that other transactions hold.

    Raises:
        UnknownGateway: a gateway is not registered; nothing was appended.
    """
    [result] = await append(connection, [events], wait=True, hint=hint)
    if isinstance(result, UnknownGateway):
        raise result
    assert not isinstance(result, Busy)  # noqa: S101 - cannot be: the append waited
    return result


async def _append_one(connection: _Fetches, event: Event, *, wait: bool, hint: bool) -> PublishResult:
    row = await connection.fetchrow(
        QUERIES["append_event"],
        event.gateway_id,
        event.event_id,
        event.type,
        event.action,
        event.entity_type,
        event.entity_id,
        event.payload,
        event.originated_at,
        event.trace_parent,
        wait,
        hint,
    )
    return _result([event], [row])


def _as_arrays(groups: Sequence[Sequence[Event]]) -> tuple[object, ...]:
    """The arguments of `append_events`, one array for each column; a payload that events share is sent once."""
    events = [event for group in groups for event in group]
    payloads = {id(event.payload): event.payload for event in events}
    numbers = {identity: number for number, identity in enumerate(payloads, start=1)}
    traces = [event.trace_parent for event in events]
    return (
        array_literal([number for number, group in enumerate(groups) for _ in group]),
        [event.gateway_id for event in events],
        [event.event_id for event in events],
        [event.type for event in events],
        [event.action for event in events],
        [event.entity_type for event in events],
        [event.entity_id for event in events],
        [event.originated_at for event in events],
        # A shorter array is padded with NULL.
        traces if any(traces) else [],
        array_literal([numbers[id(event.payload)] for event in events]),
        list(payloads.values()),
    )


def _result(group: Sequence[Event], rows: Sequence[Row]) -> PublishResult:
    match rows[0]["status"] if rows else "empty":
        case "unknown":
            return UnknownGateway(rows[0]["culprit"])
        case "busy":
            return Busy(rows[0]["culprit"])
        case _:
            return tuple(_receipt(event, row) for event, row in zip(group, rows, strict=True))


def _receipt(event: Event, row: Row) -> Receipt:
    return Receipt(
        gateway_id=event.gateway_id,
        event_id=event.event_id,
        position=Position(row["epoch"], row["offset"]),
        created=row["status"] == "stored",
    )
