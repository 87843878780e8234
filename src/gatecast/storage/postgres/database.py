"""A PostgreSQL database: its pool of connections, transactions on it, and its migrations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString, TypeAlias, TypeVar, cast

import asyncpg

from gatecast.errors import DatabaseUnsuitable, SchemaMissing, StatementFailed, StorageError, StorageUnavailable
from gatecast.storage.contract import Row
from gatecast.storage.migrations import Migration, SchemaNeed, available, missing, need, newest, tables
from gatecast.storage.postgres.connection_pool import ConnectionPool
from gatecast.storage.postgres.dialing import Dialer
from gatecast.storage.postgres.driver_errors import translated
from gatecast.storage.postgres.function_files import FunctionFile, function_files
from gatecast.storage.postgres.role import MIGRATE_AS_OWNER, check_role, split_names
from gatecast.storage.queries import Queries
from gatecast.storage.replication import Replication
from gatecast.telemetry.metrics import DatabaseUse
from gatecast.waiting import Backoff

#: The driver gives up a statement after this many seconds; only one that waits for a held log, or for a database that
#: hangs, takes that long.
STATEMENT_TIME_LIMIT = 30.0

_QUERIES = Queries("gatecast.storage.postgres", "database.sql")

_GIVEN_UP = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

_BACKOFF = Backoff(first=0.01, longest=1.0)

T = TypeVar("T")

#: A connection of the driver, or what a caller's own pool hands out in its place.
PooledConnection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"


class PostgresTransaction:
    """An open transaction on one connection of the pool."""

    def __init__(self, connection: PooledConnection) -> None:
        #: The driver's connection, for parts of this backend that take part in the transaction.
        self.connection = connection
        #: True once it has committed or rolled back; by then the connection may be in use by another caller.
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
            return _rows_changed(await self.connection.execute(query, *arguments))


class PostgresDatabase:
    """`gatecast.storage.contract.Database` on PostgreSQL, reached through a pool of connections."""

    def __init__(self, pool: ConnectionPool, dialer: Dialer, migration_packages: Sequence[str]) -> None:
        self._pool = pool
        self._dialer = dialer
        self._migrations = available(*migration_packages)

    @property
    def pooled(self) -> bool:
        """Whether connections go through a pooler; with `auto`, False until the first connection has shown it."""
        return self._dialer.pooled

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PooledConnection]:
        """A connection of the pool for one statement; errors of the driver become those of `gatecast.errors`."""
        async with self._acquired() as connection:
            if self._dialer.pooled:
                async with self._begun(connection):
                    yield connection
            else:
                yield connection

    @asynccontextmanager
    async def _begun(self, connection: PooledConnection) -> AsyncIterator[None]:
        """A transaction in which each statement sees everything committed before it, as our statements require."""
        async with connection.transaction(isolation="read_committed"):
            if self._dialer.pooled:
                await connection.execute(_QUERIES["compile_nothing"])
            yield

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[PooledConnection]:
        """A connection of the pool, in no transaction; errors of the driver become those of `gatecast.errors`.

        If the server turns out to be read-only (a demoted primary), the pool opens all its connections anew.
        """
        use = DatabaseUse()
        with translated():
            try:
                connection = await self._pool.acquire(STATEMENT_TIME_LIMIT)
                use.begin()
                try:
                    yield connection
                finally:
                    use.end()
                    await self._pool.release(connection)
            except asyncpg.ReadOnlySQLTransactionError:
                self._pool.expire()
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        """A transaction that commits when the block ends, and rolls back when it raises or is cancelled."""
        failure: BaseException | None = None
        try:
            async with self._acquired() as connection, self._begun(connection):
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
                # The block's own error: a caller's TimeoutError says nothing about the database.
                raise failure from failure.__cause__
            raise

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of a statement that is a transaction of its own, repeated as by `repeated`."""

        async def once() -> list[Row]:
            async with self.connection() as connection:
                return cast("list[Row]", await connection.fetch(query, *arguments))

        return await repeated(once)

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows a statement changed; it is a transaction of its own, repeated as by `repeated`."""

        async def once() -> int:
            async with self.connection() as connection:
                return _rows_changed(await connection.execute(query, *arguments))

        return await repeated(once)

    async def repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work that is one transaction, repeated after a deadlock or a conflict."""
        return await repeated(work)

    async def ping(self) -> None:
        """Return once the database has answered."""
        async with self.connection() as connection:
            await connection.execute("SELECT 1")

    async def replication(self) -> Replication | None:
        """What the server reports about its standbys; None if it is a standby itself."""
        rows = await self.fetch(_QUERIES["replication"])
        return Replication(**rows[0]) if rows else None

    async def is_outbox(self) -> bool:
        """Whether it holds the tables of an outbox."""
        return bool(await self.fetch(_QUERIES["is_outbox"]))

    async def schema_version(self) -> int:
        """Number of the newest applied migration of the event log; 0 for an empty database."""
        return newest(await self._applied())

    async def schema_need(self) -> SchemaNeed:
        """What the database lacks; a file of functions with a new text counts as a missing migration.

        Raises:
            SchemaTooNew: a newer release migrated the database.
            DatabaseUnsuitable: the role that connects cannot find or use the tables.
        """
        await self._check_role()
        lacking = need(self._migrations, await self._applied())
        if lacking is SchemaNeed.NOTHING and await self._changed_functions():
            return SchemaNeed.BEHIND
        return lacking

    async def _applied(self) -> list[int]:
        try:
            return [row["number"] for row in await self.fetch(_QUERIES["applied_migrations"])]
        except SchemaMissing:
            return []

    async def _check_role(self) -> None:
        names = tables(self._migrations)
        check_role(await self.fetch(_QUERIES["role"], *split_names(names)))

    async def migrate(self) -> list[int]:
        """The numbers of the migrations that this call applied; changed files of functions are applied, too.

        Of pods that start together one applies them, and the others wait. If nothing is missing, nothing is changed and
        no right to change the schema is needed.

        Raises:
            SchemaTooNew: a newer release migrated the database.
            DatabaseUnsuitable: the role that connects cannot find or use the tables, or must not change the schema.
        """
        if await self.schema_need() is SchemaNeed.NOTHING:
            return []
        try:
            return await self._migrate()
        except StatementFailed as error:
            if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
                raise DatabaseUnsuitable(f"its schema has to change: {error.__cause__}", MIGRATE_AS_OWNER) from error
            raise

    async def _migrate(self) -> list[int]:
        async with self.transaction() as transaction:
            # The lock lasts for this transaction, so it also works through a pooler in transaction mode.
            await transaction.fetch(_QUERIES["lock_migrations"])
            with translated():
                await transaction.connection.execute(_QUERIES["prepare_migrations"])
            numbers = await self.apply(transaction, self._migrations)
            for file in _changed(await transaction.fetch(_QUERIES["applied_functions"])):
                with translated():
                    await transaction.connection.execute(file.text)
                await transaction.execute(_QUERIES["note_functions"], file.name, file.checksum)
            return numbers

    async def apply(self, transaction: PostgresTransaction, known: Sequence[Migration]) -> list[int]:
        """The numbers of those of these migrations that were missing, now applied in this transaction."""
        applied = await transaction.fetch(_QUERIES["applied_migrations"])
        pending = missing(known, [row["number"] for row in applied])
        for migration in pending:
            await self._apply(transaction, migration)
        return [migration.number for migration in pending]

    async def _changed_functions(self) -> list[FunctionFile]:
        """The files of functions whose present text this database has never had."""
        try:
            return _changed(await self.fetch(_QUERIES["applied_functions"]))
        except SchemaMissing:
            return function_files()

    async def _apply(self, transaction: PostgresTransaction, migration: Migration) -> None:
        with translated():
            await transaction.connection.execute(migration.text)
        await transaction.execute(_QUERIES["note_migration"], migration.number, migration.name)


async def repeated(work: Callable[[], Awaitable[T]]) -> T:
    """The result of work that is one transaction, repeated if the database rolls it back for another one.

    After a deadlock or a conflict nothing of it is stored, so it is done again, after a pause that grows to a second,
    until 30 seconds have passed.

    Raises:
        StorageUnavailable: the database was still rolling it back then, or cannot be reached.
    """
    give_up_at = time.monotonic() + STATEMENT_TIME_LIMIT
    attempt = 0
    while True:
        try:
            return await work()
        except StorageUnavailable as error:
            if not isinstance(error.__cause__, _GIVEN_UP) or time.monotonic() > give_up_at:
                raise
        attempt += 1
        await asyncio.sleep(_BACKOFF.pause(attempt))


def _rows_changed(status: str) -> int:
    """The number of rows in the driver's status of a statement: `UPDATE 3`, `INSERT 0 1`; 0 for `CREATE TABLE`."""
    return int(status.rpartition(" ")[2]) if status[-1:].isdigit() else 0


def _changed(applied: Sequence[Row]) -> list[FunctionFile]:
    """The files whose present text was never applied.

    A text counts as applied even if a newer release has replaced it since: functions of one name keep their meaning.
    """
    known = {(row["name"], row["checksum"]) for row in applied}
    return [file for file in function_files() if (file.name, file.checksum) not in known]
