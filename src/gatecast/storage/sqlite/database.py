"""One SQLite file: a writing thread, a reading thread, and the schema's migrations."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import LiteralString, TypeVar
from uuid import UUID

from gatecast.errors import LogHeld, StorageUnavailable, TransactionUnusable
from gatecast.storage.caller import driver_connection
from gatecast.storage.contract import Row
from gatecast.storage.migrations import SchemaNeed, available, need, newest
from gatecast.storage.sqlite import history, schema
from gatecast.storage.sqlite.caller_transaction import is_same_file, work_in_part, work_inside
from gatecast.storage.sqlite.connection import BUSY_TIME_LIMIT, Clock, is_locked, system_clock
from gatecast.storage.sqlite.connection_thread import ConnectionThread, Work
from gatecast.storage.sqlite.history_file import HistoryFile
from gatecast.storage.sqlite.opened_file import OpenedFile
from gatecast.storage.sqlite.page_cache import PageCache
from gatecast.storage.sqlite.statements import (
    CONTROL,
    begin,
    change,
    commit,
    reading,
    roll_back,
    select,
    select_named,
)
from gatecast.storage.sqlite.write_ahead_log import WriteAheadLog
from gatecast.telemetry.metrics import DatabaseUse

T = TypeVar("T")


class SqliteTransaction:
    """`gatecast.storage.contract.Transaction` on SQLite; each statement runs in the writing thread."""

    def __init__(self, thread: ConnectionThread, path: Path) -> None:
        self._thread = thread
        self._ended = False
        #: The path of the database that it changes.
        self.path = path

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of the result."""
        return await self._run(lambda connection: select_named(connection, query, *arguments))

    async def fetch_one(self, query: LiteralString, *arguments: object) -> Row | None:
        """The first row of the result, or None."""
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows the statement changed."""
        return await self._run(lambda connection: change(connection, query, *arguments))

    async def take_part(self, work: Work[T]) -> T:
        """The result of work that is a part of this transaction: if it raises, only the part is undone.

        Raises:
            TransactionUnusable: the transaction has ended.
        """
        return await self._run(partial(work_in_part, work=work))

    def end(self) -> None:
        """Refuse further work, which after the commit would run outside any transaction."""
        self._ended = True

    async def _run(self, work: Work[T]) -> T:
        if self._ended:
            raise TransactionUnusable("it has ended")
        return await self._thread.run_to_its_end(partial(_in_transaction, work))


class SqliteDatabase:
    """`gatecast.storage.contract.Database` on a SQLite file, which one thread writes and another reads."""

    def __init__(
        self,
        file: OpenedFile,
        *,
        writer: ConnectionThread,
        reader: ConnectionThread,
        migrations: Sequence[str],
        clock: Clock = system_clock,
    ) -> None:
        self._file = file
        self._log = WriteAheadLog(file.write_ahead_log)
        self._writer = writer
        self._reader = reader
        self._migrations = available(*migrations)
        # Keeps other callers out of the writing thread between the statements of a transaction.
        self._lock = asyncio.Lock()
        self._clock = clock
        self._writers_pages, self._readers_pages = PageCache(file.path), PageCache(file.path)
        #: The absolute path of the file.
        self.path = file.path
        #: The history file beside it.
        self.history_file = HistoryFile(file)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteTransaction]:
        """A transaction that commits when the block ends, and rolls back when it raises or is cancelled."""
        async with self._writing_turn():
            transaction = SqliteTransaction(self._writer, self.path)
            try:
                await self._writer.run_to_its_end(self._begin)
                yield transaction
                transaction.end()
                await self._writer.run_to_its_end(partial(_in_transaction, self._commit))
            except BaseException:
                transaction.end()
                await self._writer.run_to_its_end(roll_back)
                raise

    async def write(self, work: Work[T]) -> T:
        """The result of work that is a transaction of its own.

        If the caller is cancelled, the transaction is still stored whole or not at all: it begins, commits and rolls
        back inside the thread.

        Raises:
            LogHeld: other transactions, of this process or another one, were writing for more than 10 seconds.
        """
        async with self._writing_turn():
            return await self._writer.run(partial(self._as_transaction, work))

    def _as_transaction(self, work: Work[T], connection: sqlite3.Connection) -> T:
        try:
            self._begin(connection)
            result = work(connection)
            self._commit(connection)
        except BaseException:
            roll_back(connection)
            raise
        return result

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._file.check()
        self._log.check(connection)
        self._writers_pages.refresh(connection)
        begin(connection)
        history.go_on(connection, self.history_file, self._clock())

    def _commit(self, connection: sqlite3.Connection) -> None:
        """Commit to disk, in the file that the path leads to and the next start will open."""
        present = history.last_change(connection)
        commit(connection)
        self._file.check()
        history.remember(self.history_file, present)
        self._log.keep_small(connection)

    async def keep_history(self, expected: UUID) -> None:
        """Let the history in the file continue, whatever the history file says, if its epoch is the expected one."""
        async with self._writing_turn():
            await self._writer.run(partial(self._keep_history, expected))

    def _keep_history(self, expected: UUID, connection: sqlite3.Connection) -> None:
        self._file.check()
        # Under the lock: otherwise a writer could begin another history first.
        begin(connection)
        try:
            history.keep(connection, self.history_file, expected)
        finally:
            roll_back(connection)

    async def write_in(self, transaction: object, work: Work[T]) -> T:
        """The result of work that is a part of the caller's transaction: if it raises, only the part is undone.

        Raises:
            TransactionUnusable: it is not an open transaction of this database.
        """
        self._file.check()
        transaction = await driver_connection(transaction)
        match transaction:
            case SqliteTransaction() if is_same_file(transaction.path, self.path):
                return await transaction.take_part(work)
            case sqlite3.Connection():
                return work_inside(transaction, self.path, partial(self._in_callers_transaction, work))
        raise TransactionUnusable(
            f"pass a sqlite3.Connection, SQLAlchemy's or Django's on it, or a transaction of this database, not "
            f"{type(transaction).__name__}"
        )

    def _in_callers_transaction(self, work: Work[T], connection: sqlite3.Connection) -> T:
        # The caller commits, so the next `changed_since` writes the history file.
        history.go_on(connection, self.history_file, self._clock())
        return work(connection)

    async def write_with(self, transaction: object | None, work: Work[T]) -> T:
        """As `write` if there is no transaction, as `write_in` if there is one."""
        return await (self.write(work) if transaction is None else self.write_in(transaction, work))

    async def read(self, work: Work[T]) -> T:
        """The result of work that only reads, all of it from the same instant."""
        return await self._reader.run(partial(self._as_snapshot, work))

    def _as_snapshot(self, work: Work[T], connection: sqlite3.Connection) -> T:
        self._readers_pages.refresh(connection)
        with reading(connection):
            return work(connection)

    async def is_being_written(self) -> bool:
        """Whether a connection, of this process or another one, holds the write lock now; answered without waiting."""
        return await self._reader.run(lambda _: is_locked(self.path))

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of a query that changes nothing, outside any transaction."""
        return await self._reader.run(lambda connection: select_named(connection, query, *arguments))

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows a statement changed; it is a transaction of its own."""
        return await self.write(lambda connection: change(connection, query, *arguments))

    async def repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work that is one transaction, run once: with one writer at a time there are no deadlocks."""
        return await work()

    async def ping(self) -> None:
        """Return if the file can be read, and is the one that the path leads to.

        Raises:
            StorageUnavailable: it cannot be read, or was removed or replaced.
        """
        self._file.check()
        await self._reader.run(lambda connection: select(connection, CONTROL["ping"]))

    async def replication(self) -> None:
        """None: a file has no standbys."""

    async def is_outbox(self) -> bool:
        """Whether it holds the tables of an outbox."""
        return bool(await self.fetch(CONTROL["is_outbox"]))

    async def schema_version(self) -> int:
        """Number of the newest applied migration of the event log; 0 for an empty database."""
        return newest(await self._applied())

    async def schema_need(self) -> SchemaNeed:
        """What the database lacks of the schema that this release needs.

        Raises:
            SchemaTooNew: a newer release migrated the database.
        """
        return need(self._migrations, await self._applied())

    async def migrate(self) -> list[int]:
        """The numbers of the migrations that this call applied; of processes that start together, one applies them.

        Raises:
            SchemaTooNew: a newer release migrated the database.
        """
        async with self._writing_turn():
            return await self._writer.run(lambda connection: schema.migrate(connection, self._migrations))

    async def _applied(self) -> list[int]:
        return await self.read(schema.applied)

    @asynccontextmanager
    async def _writing_turn(self) -> AsyncIterator[None]:
        use = DatabaseUse()
        try:
            async with asyncio.timeout(BUSY_TIME_LIMIT):
                await self._lock.acquire()
        except TimeoutError:
            raise LogHeld("every log of this file in this process") from None
        use.begin()
        try:
            yield
        finally:
            use.end()
            self._lock.release()


def _in_transaction(work: Work[T], connection: sqlite3.Connection) -> T:
    # After some errors (a full disk) SQLite rolls back by itself; later statements must not commit one by one.
    if not connection.in_transaction:
        raise StorageUnavailable("the transaction was rolled back after an error")
    return work(connection)
