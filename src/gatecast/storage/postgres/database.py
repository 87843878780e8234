"""The pool of connections, transactions on it, and the schema's migrations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString, TypeAlias, cast

import asyncpg

from gatecast.errors import SchemaMissing, StorageError
from gatecast.storage.contract import Row
from gatecast.storage.migrations import Migration, SchemaNeed, available, missing, need, newest
from gatecast.storage.postgres.driver_errors import translated
from gatecast.storage.postgres.function_files import FunctionFile, function_files
from gatecast.storage.queries import Queries

#: No statement of ours takes longer, unless the database hangs or another transaction holds a log; in seconds.
STATEMENT_TIME_LIMIT = 30.0

#: How long giving a connection back may take when its statement was interrupted; in seconds.
_RELEASE_TIME_LIMIT = 1.0

_QUERIES = Queries("gatecast.storage.postgres", "database.sql")

#: A connection of the driver, or what the pool hands out in its place.
PooledConnection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"


class PostgresTransaction:
    """An open transaction on one connection of the pool."""

    def __init__(self, connection: PooledConnection) -> None:
        #: The driver's connection, for parts of this backend that take part in the transaction.
        self.connection = connection
        #: True once it has committed or rolled back: the connection may be somebody else's by now.
        self.ended = False

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of the result."""
        with translated():
            return cast("list[Row]", await self.connection.fetch(query, *arguments))

    async def fetch_one(self, query: LiteralString, *arguments: object) -> Row | None:
        """The first row of the result, or None."""
        with translated():
            return cast("Row | None", await self.connection.fetchrow(query, *arguments))

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows the statement changed."""
        with translated():
            status = await self.connection.execute(query, *arguments)
        return int(status.rpartition(" ")[2]) if status[-1:].isdigit() else 0


class PostgresDatabase:
    """One PostgreSQL database, reached through a pool."""

    def __init__(self, pool: asyncpg.Pool[Any], migration_packages: Sequence[str]) -> None:
        self._pool = pool
        self._migrations = available(*migration_packages)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PooledConnection]:
        """One connection of the pool; errors come out translated.

        A connection that has landed on a server that only reads (a demoted primary) makes the pool dial anew.
        """
        with translated():
            try:
                connection = await self._pool.acquire(timeout=STATEMENT_TIME_LIMIT)
                try:
                    yield connection
                finally:
                    await self._give_back(connection)
            except asyncpg.ReadOnlySQLTransactionError:
                await self._pool.expire_connections()
                raise

    async def _give_back(self, connection: asyncpg.pool.PoolConnectionProxy[Any]) -> None:
        """Put the connection back into the pool.

        An interrupted statement is waited for no longer than a moment; then the connection is dropped. That it was must
        not take the place of what interrupted the statement.
        """
        try:
            await self._pool.release(connection, timeout=_RELEASE_TIME_LIMIT)
        except TimeoutError:
            # Not even the cancellation was answered: the wire was cut without a word. The idle connections went the
            # same way, and each would have to find out by a time limit of its own.
            self._drop_idle()

    def _drop_idle(self) -> None:
        pool: Any = self._pool
        for holder in pool._holders:  # noqa: SLF001 - the pool's own way closes politely, and waits for an answer
            if holder.is_idle():
                holder.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        """Begin; commit when the block ends, roll back when it raises or is cancelled."""
        failure: BaseException | None = None
        try:
            async with self.connection() as connection, connection.transaction():
                transaction = PostgresTransaction(connection)
                try:
                    yield transaction
                except BaseException as error:
                    failure = error
                    raise
                finally:
                    transaction.ended = True
        except StorageError as error:
            if failure is not None and error.__cause__ is failure:
                # The block's own: a caller's TimeoutError says nothing about the database.
                raise failure from failure.__cause__
            raise

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of a query, outside of any transaction."""
        async with self.connection() as connection:
            return cast("list[Row]", await connection.fetch(query, *arguments))

    async def ping(self) -> None:
        """Return when the database answers."""
        async with self.connection() as connection:
            await connection.execute("SELECT 1")

    async def schema_version(self) -> int:
        """Number of the newest migration of the event log that was applied; 0 for an empty database."""
        return newest(await self._applied())

    async def schema_need(self) -> SchemaNeed:
        """What the database lacks."""
        lacking = need(self._migrations, await self._applied())
        if lacking is SchemaNeed.NOTHING and await self._changed_functions():
            return SchemaNeed.BEHIND
        return lacking

    async def _applied(self) -> list[int]:
        try:
            return [row["number"] for row in await self.fetch(_QUERIES["applied_migrations"])]
        except SchemaMissing:
            return []

    async def migrate(self) -> list[int]:
        """Apply the migrations that are missing; pods that start at once do it once, the others wait."""
        async with self.transaction() as transaction:
            # The lock lasts for this transaction, so it also works through a pooler in transaction mode.
            await transaction.fetch(_QUERIES["lock_migrations"])
            await transaction.connection.execute(_QUERIES["prepare_migrations"])
            applied = await transaction.fetch(_QUERIES["applied_migrations"])
            pending = missing(self._migrations, [row["number"] for row in applied])
            for migration in pending:
                await self._apply(transaction, migration)
            for file in _changed(await transaction.fetch(_QUERIES["applied_functions"])):
                with translated():
                    await transaction.connection.execute(file.text)
                await transaction.execute(_QUERIES["note_functions"], file.name, file.checksum)
            return [migration.number for migration in pending]

    async def _changed_functions(self) -> list[FunctionFile]:
        """The files of functions that this database has never had in the present text."""
        try:
            return _changed(await self.fetch(_QUERIES["applied_functions"]))
        except SchemaMissing:
            return function_files()

    async def _apply(self, transaction: PostgresTransaction, migration: Migration) -> None:
        with translated():
            await transaction.connection.execute(migration.text)
        await transaction.execute(_QUERIES["note_migration"], migration.number, migration.name)


def _changed(applied: Sequence[Row]) -> list[FunctionFile]:
    """The files whose present text was never applied.

    One that was applied before a newer release replaced it counts as applied: its functions still have their meaning.
    """
    known = {(row["name"], row["checksum"]) for row in applied}
    return [file for file in function_files() if (file.name, file.checksum) not in known]
