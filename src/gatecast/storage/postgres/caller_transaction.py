"""Finds the driver's connection inside whatever a caller passes as `transaction`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gatecast.errors import TransactionUnusable
from gatecast.storage.postgres.database import PooledConnection, PostgresDatabase, PostgresTransaction
from gatecast.storage.postgres.driver_errors import translated

T = TypeVar("T")

_NOT_OPEN = "no transaction is open on the connection; begin one first"

_ACCEPTED = (
    "pass an open transaction of gatecast, an asyncpg connection, or an AsyncConnection or AsyncSession of SQLAlchemy "
    "on asyncpg; with any other driver call the SQL function gatecast.publish(…)"
)


async def driver_connection(transaction: object) -> PooledConnection:
    """The asyncpg connection that carries the caller's open transaction.

    Raises:
        TransactionUnusable: there is none, or no transaction is open on it.
    """
    if isinstance(transaction, PostgresTransaction):
        if transaction.ended:
            raise TransactionUnusable(_NOT_OPEN)
        return transaction.connection
    candidate: Any = transaction
    if type(transaction).__module__.startswith("sqlalchemy."):
        candidate = await _inside_sqlalchemy(transaction)
    if not isinstance(candidate, asyncpg.Connection | PoolConnectionProxy):
        raise TransactionUnusable(f"{type(candidate).__name__} is not supported; {_ACCEPTED}")
    if not _is_in_transaction(candidate):
        raise TransactionUnusable(_NOT_OPEN)
    return candidate


def _is_in_transaction(connection: PooledConnection) -> bool:
    try:
        return connection.is_in_transaction()
    except asyncpg.InterfaceError:
        # It was given back to its pool.
        return False


async def joined(
    database: PostgresDatabase, transaction: object | None, work: Callable[[PooledConnection], Awaitable[T]]
) -> T:
    """The result of work in the caller's transaction; without one in its own, which is repeated as a whole."""
    if transaction is not None:
        with translated():
            return await work(await driver_connection(transaction))

    async def once() -> T:
        async with database.transaction() as own:
            with translated():
                return await work(own.connection)

    return await database.repeated(once)


async def _inside_sqlalchemy(transaction: Any) -> object:  # noqa: ANN401 - SQLAlchemy is optional
    """What SQLAlchemy wraps: AsyncSession → AsyncConnection → asyncpg connection."""
    # Asked first: a session that is asked for its connection begins a transaction that nobody would commit.
    if not transaction.in_transaction():
        raise TransactionUnusable(_NOT_OPEN)
    connection = await transaction.connection() if hasattr(transaction, "sync_session") else transaction
    # SQLAlchemy begins the driver's transaction with the first statement: send one, or there is nothing to join.
    await connection.exec_driver_sql("SELECT 1")
    return (await connection.get_raw_connection()).driver_connection
