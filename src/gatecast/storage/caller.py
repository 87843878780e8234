"""Finds the driver's connection inside the object that a caller passes as `transaction`."""

from __future__ import annotations

import sys
from inspect import isawaitable
from typing import Any

from gatecast.errors import TransactionUnusable

NOT_OPEN = "no transaction is open on the connection; begin one first"


def is_a(value: object, *classes: str) -> bool:
    """Whether the value is an instance of one of these classes, each named `module:Class`.

    Imports nothing: a module that is not imported yet has no instances.
    """
    found = (getattr(sys.modules.get(name.partition(":")[0]), name.partition(":")[2], None) for name in classes)
    return isinstance(value, tuple(each for each in found if isinstance(each, type)))


async def answered(result: Any) -> Any:  # noqa: ANN401 - of a driver or of SQLAlchemy
    """The result of a call that is synchronous or asynchronous."""
    return await result if isawaitable(result) else result


async def driver_connection(transaction: object) -> object:
    """The driver's connection inside an object of SQLAlchemy or Django; any other object is returned as it is.

    A session is flushed first, so that the publish comes after the changes that it announces, and the log is locked as
    late as possible.

    Raises:
        TransactionUnusable: the object is of SQLAlchemy or Django, and has no open transaction.
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
    """The driver's connection that SQLAlchemy wraps: session → connection → driver's connection."""
    # Checked first: asking a session for its connection begins a transaction that nothing would commit.
    if not transaction.in_transaction():
        raise TransactionUnusable(NOT_OPEN)
    connection = transaction
    if is_a(transaction, *_SESSIONS):
        await answered(transaction.flush())
        connection = await answered(transaction.connection())
    # On asyncpg SQLAlchemy begins the transaction with the first statement: without one there is nothing to join.
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
