"""Runs our statements on a connection of psycopg 3, synchronous or asynchronous, as if it were one of asyncpg."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from gatecast.errors import TransactionUnusable
from gatecast.storage.caller import NOT_OPEN, answered, is_a


class PsycopgConnection:
    """The methods of an asyncpg connection that our statements need; on a synchronous connection they block.

    Raises:
        TransactionUnusable: psycopg is older than 3.2, the connection is closed, or no transaction is open on it and
            none begins with the next statement (autocommit).
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
        psycopg: Any = sys.modules["psycopg"]
        if not hasattr(psycopg, "RawCursor"):
            raise TransactionUnusable(f"psycopg {psycopg.__version__} is too old; install 3.2 or newer")
        status = psycopg.pq.TransactionStatus
        if connection.closed or (connection.autocommit and connection.info.transaction_status != status.INTRANS):
            raise TransactionUnusable(NOT_OPEN)
        self._connection = connection
        self._psycopg = psycopg

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        """Every row of the result."""
        is_async = is_a(self._connection, "psycopg:AsyncConnection")
        cursor_class = self._psycopg.AsyncRawCursor if is_async else self._psycopg.RawCursor
        cursor = cursor_class(self._connection, row_factory=self._psycopg.rows.dict_row)
        with _errors_of_asyncpg(self._psycopg):
            await answered(cursor.execute(query, arguments))
            found: list[Any] = await answered(cursor.fetchall())
        return found

    async def fetchrow(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - a row of the driver
        """The first row of the result, or None."""
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - as the driver reads it
        """The first value of the first row, or None."""
        row = await self.fetchrow(query, *arguments)
        return None if row is None else next(iter(row.values()))


@contextmanager
def _errors_of_asyncpg(psycopg: Any) -> Iterator[None]:  # noqa: ANN401 - psycopg is optional
    """A block whose errors are raised as asyncpg's, so that one table translates the errors of both drivers."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is not None:
            message = error.diag.message_primary or str(error)
            raise asyncpg.PostgresError.new({"C": error.sqlstate, "M": message}) from error
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            raise ConnectionError(str(error)) from error
        # psycopg itself could not encode a value.
        raise asyncpg.DataError(str(error)) from error
