"""Publishing in the caller's own transaction, without an event loop and without a hub."""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, overload

from gatecast.errors import TransactionUnusable
from gatecast.events import Event, Position
from gatecast.storage.caller import driver_connection, is_a
from gatecast.storage.contract import Receipt
from gatecast.storage.postgres import caller_transaction as postgres
from gatecast.storage.sqlite import caller_transaction as sqlite
from gatecast.telemetry import traces

T = TypeVar("T")


@overload
def publish_sync(events: Event, connection: object) -> Position: ...
@overload
def publish_sync(events: Iterable[Event], connection: object) -> list[Position]: ...


def publish_sync(events: Event | Iterable[Event], connection: object) -> Position | list[Position]:
    """Make one event, or all or none of several, part of the open transaction on a connection, and return positions.

    For code without an event loop; needs no hub. Pass a `Connection` of psycopg 3, a `Session` (also a subclass or a
    scoped session) or `Connection` of SQLAlchemy on psycopg 3 or SQLite, the `connection` of Django on either, or a
    sqlite3 connection. A session is flushed first. Events are stored when the transaction commits, and pods hear of
    them then.

    An event id that is already in a gateway's log is not stored again: the first position is returned.

    Raises:
        UnknownGateway: a gateway is not registered; nothing was stored, and the transaction can go on.
        TransactionUnusable: the connection cannot carry a publish, or no transaction is open.
        SchemaMissing: the database of the connection is not one of Gatecast.
        StorageUnavailable: the database cannot be reached; roll back and repeat with the same event ids.
    """
    if isinstance(events, Event):
        [receipt] = _without_a_loop(_publish([events], connection))
        return receipt.position
    return [receipt.position for receipt in _without_a_loop(_publish(list(events), connection))]


async def _publish(events: list[Event], connection: object) -> tuple[Receipt, ...]:
    if is_a(connection, *_ASYNCHRONOUS):
        raise TransactionUnusable(f"{type(connection).__name__} is asynchronous; use: await hub.publish(…)")
    found = await driver_connection(connection)
    with traces.timed("append", events):
        if isinstance(found, sqlite3.Connection):
            return await sqlite.publish_on(found, events)
        return await postgres.publish_on(found, events)


_ASYNCHRONOUS = (
    "psycopg:AsyncConnection",
    "asyncpg:Connection",
    "sqlalchemy.ext.asyncio:AsyncSession",
    "sqlalchemy.ext.asyncio:AsyncConnection",
    "sqlalchemy.ext.asyncio:async_scoped_session",
)


def _without_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that never waits: what it calls blocks, so that it ends in its first step."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    finally:
        work.close()
    raise AssertionError("a synchronous connection was waited for")
