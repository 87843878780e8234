"""What a caller passes as `transaction`: the driver's connection inside it, and publishing on that without a hub."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Coroutine, Iterable
from inspect import isawaitable
from typing import Any, TypeVar, overload

from gatecast.errors import TransactionUnusable
from gatecast.events import Event, Position
from gatecast.storage.contract import Receipt

T = TypeVar("T")

NOT_OPEN = "no transaction is open on the connection; begin one first"


def is_a(value: object, *classes: str) -> bool:
    """Whether it is of one of these classes, named `module:Class`, or of a subclass.

    A module that nobody has imported has made no values, so nothing optional is imported here.
    """
    found = (getattr(sys.modules.get(name.partition(":")[0]), name.partition(":")[2], None) for name in classes)
    return isinstance(value, tuple(each for each in found if isinstance(each, type)))


async def answered(result: Any) -> Any:  # noqa: ANN401 - of a driver or of SQLAlchemy
    """The result of a call that may or may not have to be awaited."""
    return await result if isawaitable(result) else result


async def driver_connection(transaction: object) -> object:
    """The driver's connection inside what SQLAlchemy or Django hand out; anything else as it is.

    A session is flushed before: a publish comes after the changes that it tells of, and holds the log until the commit.

    Raises:
        TransactionUnusable: no transaction is open.
    """
    if is_a(transaction, *_SCOPED_SESSIONS):
        transaction = transaction()  # type: ignore[operator]
    if is_a(transaction, *_SESSIONS, *_CONNECTIONS):
        return await _inside_sqlalchemy(transaction)
    if is_a(transaction, *_DJANGO):
        return _inside_django(transaction)
    return transaction


_SCOPED_SESSIONS = ("sqlalchemy.orm:scoped_session", "sqlalchemy.ext.asyncio:async_scoped_session")
_SESSIONS = ("sqlalchemy.orm:Session", "sqlalchemy.ext.asyncio:AsyncSession")
_CONNECTIONS = ("sqlalchemy:Connection", "sqlalchemy.ext.asyncio:AsyncConnection")
_DJANGO = ("django.db.backends.base.base:BaseDatabaseWrapper", "django.utils.connection:ConnectionProxy")


async def _inside_sqlalchemy(transaction: Any) -> object:  # noqa: ANN401 - SQLAlchemy is optional
    """What SQLAlchemy wraps: session → connection → the driver's connection."""
    # Asked first: a session that is asked for its connection begins a transaction that nobody would commit.
    if not transaction.in_transaction():
        raise TransactionUnusable(NOT_OPEN)
    connection = transaction
    if is_a(transaction, *_SESSIONS):
        await answered(transaction.flush())
        connection = await answered(transaction.connection())
    # SQLAlchemy begins the transaction of asyncpg with the first statement: send one, or there is nothing to join.
    await answered(connection.exec_driver_sql("SELECT 1"))
    if hasattr(connection, "get_raw_connection"):
        connection = await connection.get_raw_connection()
    else:
        connection = connection.connection
    return connection.driver_connection


def _inside_django(connection: Any) -> object:  # noqa: ANN401 - Django is optional
    if connection.connection is None or connection.get_autocommit():
        raise TransactionUnusable("no transaction is open on the connection; publish inside transaction.atomic()")
    if connection.needs_rollback:
        raise TransactionUnusable("it has failed already; roll it back")
    driver: object = connection.connection
    return driver


# --- publishing without a hub -----------------------------------------------------------------------------------------


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
    found: Any = await driver_connection(connection)
    if isinstance(found, sqlite3.Connection):
        from gatecast.storage.sqlite.caller_transaction import publish_on  # noqa: PLC0415 - the backend in use
    else:
        from gatecast.storage.postgres.caller_transaction import publish_on  # noqa: PLC0415 - the backend in use
    return await publish_on(found, events)


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
