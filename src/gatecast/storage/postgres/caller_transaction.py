"""Works in a transaction that the caller has opened, on asyncpg or psycopg."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gatecast.errors import TransactionUnusable
from gatecast.events import Event
from gatecast.storage import caller
from gatecast.storage.caller import NOT_OPEN, is_a
from gatecast.storage.contract import Receipt
from gatecast.storage.postgres.appending import append_one_group
from gatecast.storage.postgres.database import PooledConnection, PostgresDatabase, PostgresTransaction
from gatecast.storage.postgres.driver_errors import translated
from gatecast.storage.postgres.psycopg_connection import PsycopgConnection
from gatecast.storage.queries import Queries

CONTROL = Queries("gatecast.storage.postgres", "database.sql")

T = TypeVar("T")


class Statements(Protocol):
    """The methods of a connection that our statements need, whatever its driver."""

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:  # noqa: ANN401 - the driver's own types
        """Every row of the result."""
        ...

    async def fetchrow(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401 - the driver's own types
        """The first row of the result, or None."""
        ...

    async def fetchval(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401 - the driver's own types
        """The first value of the first row, or None."""
        ...


async def statements_in(transaction: object) -> Statements:
    """A connection that runs statements in the caller's open transaction.

    Raises:
        TransactionUnusable: the object is not supported, or no transaction is open on it.
    """
    if isinstance(transaction, PostgresTransaction):
        if transaction.ended:
            raise TransactionUnusable(NOT_OPEN)
        return transaction.connection
    candidate = await caller.driver_connection(transaction)
    if is_a(candidate, "psycopg:AsyncConnection"):
        return PsycopgConnection(candidate)
    if is_a(candidate, "psycopg:Connection"):
        raise TransactionUnusable(
            f"{type(candidate).__name__} of psycopg would block the event loop; use: gatecast.publish_sync(event, …)"
        )
    if not isinstance(candidate, asyncpg.Connection | PoolConnectionProxy):
        raise _unsupported(candidate)
    if not _is_in_transaction(candidate):
        raise TransactionUnusable(NOT_OPEN)
    return candidate


def _unsupported(connection: object) -> TransactionUnusable:
    return TransactionUnusable(
        f"{type(connection).__module__}.{type(connection).__qualname__} is not supported; pass a connection of asyncpg "
        "or psycopg 3, or a connection or session of SQLAlchemy on one of them; with any other driver call the SQL "
        "function gatecast.publish(…)"
    )


def _is_in_transaction(connection: PooledConnection) -> bool:
    try:
        return connection.is_in_transaction()
    except asyncpg.InterfaceError:
        # The connection was returned to its pool.
        return False


async def joined(
    database: PostgresDatabase, transaction: object | None, work: Callable[[Statements], Awaitable[T]]
) -> T:
    """The result of work in the caller's transaction; without one, in a transaction of its own, repeated as a whole.

    Raises:
        TransactionUnusable: the caller's transaction cannot be used.
    """
    if transaction is not None:
        with translated():
            return await work(await statements_in(transaction))

    async def once() -> T:
        async with database.transaction() as own:
            with translated():
                return await work(own.connection)

    return await database.repeated(once)


async def publish_on(connection: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
    """A receipt for each event, appended in the open transaction of a synchronous connection of psycopg 3.

    Raises:
        TransactionUnusable: the connection is of another driver, or has no open transaction.
        UnknownGateway: a gateway is not registered; nothing was appended.
    """
    with translated():
        if not is_a(connection, "psycopg:Connection"):
            raise _unsupported(connection)
        return await append_one_group(PsycopgConnection(connection), events)


async def is_outbox(connection: object) -> bool:
    """Whether the database of a synchronous connection of psycopg 3 is an outbox."""
    with translated():
        return bool(await PsycopgConnection(connection).fetch(CONTROL["is_outbox"]))
