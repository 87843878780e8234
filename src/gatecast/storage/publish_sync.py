"""Publishes in the caller's own transaction, without an event loop and without a hub."""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, overload

from gatecast.errors import TransactionUnusable
from gatecast.events import Event, Position
from gatecast.events.event import listed
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
    """The position of each event, appended in the open transaction of a connection: all of them or none (promise P8).

    For code without an event loop; needs no hub. `connection` is one of: a `Connection` of psycopg 3; a `Session` (or a
    subclass, or a scoped session) or `Connection` of SQLAlchemy on psycopg 3 or SQLite; the `connection` of Django on
    either; a sqlite3 connection. A session is flushed first. The events are stored, and pods learn of them, when the
    transaction commits. The gateways' logs stay locked until then, so keep the transaction short.

    An event id that is already in a gateway's log is not stored again; its first position is returned. If the database
    is an outbox, the positions are pending.

    Raises:
        InvalidValue: something is no event; nothing was stored.
        UnknownGateway: a gateway is not registered; nothing was stored, and the transaction stays usable.
        TransactionUnusable: the connection cannot carry a publish, or no transaction is open.
        SchemaMissing: the connection's database has no schema of Gatecast, or an older one.
        StorageUnavailable: the database cannot be reached; roll back and repeat with the same event ids.
        ValueRefused: the database cannot hold one of the values.
    """
    if isinstance(events, Event):
        [receipt] = _without_a_loop(_publish([events], connection))
        return receipt.position
    return [receipt.position for receipt in _without_a_loop(_publish(listed(events), connection))]


async def _publish(events: list[Event], connection: object) -> tuple[Receipt, ...]:
    if is_a(connection, *_ASYNCHRONOUS):
        raise TransactionUnusable(f"{type(connection).__name__} is asynchronous; use: await hub.publish(…)")
    found = await driver_connection(connection)
    with traces.timed("append", events):
        if isinstance(found, sqlite3.Connection):
            receipts, in_outbox = await sqlite.publish_on(found, events), sqlite.is_outbox(found)
        else:
            receipts, in_outbox = await postgres.publish_on(found, events), await postgres.is_outbox(found)
        return tuple(receipt.in_outbox() for receipt in receipts) if in_outbox else receipts


_ASYNCHRONOUS = (
    "psycopg:AsyncConnection",
    "asyncpg:Connection",
    "sqlalchemy.ext.asyncio:AsyncSession",
    "sqlalchemy.ext.asyncio:AsyncConnection",
    "sqlalchemy.ext.asyncio:async_scoped_session",
)


def _without_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits: everything that it calls blocks, so its first step is its last."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    finally:
        work.close()
    raise AssertionError("a synchronous connection was waited for")
