"""The database that a log is moved from."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString, Protocol
from uuid import UUID, uuid4

import asyncpg

from gatecast.errors import DatabaseUnsuitable, StatementFailed
from gatecast.outbox.records import MIGRATIONS as OUTBOX_MIGRATIONS
from gatecast.storage.connect import OpenStorage
from gatecast.storage.contract import Row
from gatecast.storage.migrations import available
from gatecast.storage.moved import MOVED, MOVED_TO_STREAM, Blocking
from gatecast.storage.postgres import moved as moved_server
from gatecast.storage.postgres.database import PostgresDatabase
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite import history, moved, schema
from gatecast.storage.sqlite.connection import open_writer
from gatecast.storage.sqlite.driver_errors import translated
from gatecast.storage.sqlite.statements import change, select_named

#: Most rows in memory at once.
CHUNK = 1_000

QUERIES = Queries("gatecast.cli.move_log")

#: The gateway, number and head of each log; None: not known.
Ends = set[tuple[str, int, int]] | None

_BLOCKED_MEANWHILE = DatabaseUnsuitable("another move of this log has begun", "wait until that has ended")


class Source(Protocol):
    """The database that a log is moved from. Errors of the driver become those of `gatecast.errors`."""

    async def epoch(self) -> UUID:
        """The identity of its history."""

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """The rows of a query that both databases understand."""

    async def blocking(self) -> Blocking | None:
        """For which move nobody may change the log; None: everybody may."""

    async def block(self, blocking: Blocking) -> None:
        """Keep every program from changing the log, once those that change it now have ended.

        Raises:
            LogHeld: a program does not end within 10 seconds.
            DatabaseUnsuitable: it is moved to another place.
        """

    async def unblock(self, run: UUID) -> None:
        """Let every program change it again, if this run has blocked it last."""

    async def become_outbox(self, *, log: UUID, place: str, blocking: Blocking, logs: Ends) -> bool:
        """Empty and close the log, which has arrived in a stream, and bind the database to that one as its outbox.

        False: another run has done that. `logs` are those that have arrived, if they are known.

        Raises:
            DatabaseUnsuitable: the log is not blocked for this target any more, or was changed since it was copied.
        """


class FileSource:
    """An SQLite file; for use in one thread."""

    def __init__(self, connection: sqlite3.Connection, *, to_stream: bool = False) -> None:
        self._connection = connection
        self._to_stream = to_stream

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, to_stream: bool = False) -> Iterator[FileSource]:
        """The file, until the block ends.

        Raises:
            StorageUnavailable: it cannot be opened.
        """
        with translated():
            connection = open_writer(path)
        if to_stream:
            connection.text_factory = _readable
        with closing(connection):
            yield cls(connection, to_stream=to_stream)

    async def blocking(self) -> Blocking | None:
        """For which move nobody may change the log; None: everybody may."""
        with translated():
            return moved.blocking_of(self._connection)

    async def block(self, blocking: Blocking) -> None:
        """Keep every program from writing to our tables, once those that write now have ended.

        A log that goes to a stream leaves the tables of the control plane as they are; who changes them publishes.
        """
        with self._writing():
            known = moved.blocking_of(self._connection)
            if known is not None and known.target != blocking.target:
                raise _BLOCKED_MEANWHILE
            tables = [f"gatecast_{each}" for each in moved_server.TABLES] if self._to_stream else self.tables()
            moved.block(self._connection, tables, blocking, MOVED_TO_STREAM if self._to_stream else MOVED)

    async def unblock(self, run: UUID) -> None:
        """Let every program write again, if this run has blocked it last."""
        with self._writing():
            known = moved.blocking_of(self._connection)
            if known is not None and known.run == run:
                moved.unblock(self._connection)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    async def epoch(self) -> UUID:
        """The identity of its history."""
        return UUID(self.history()[0])

    def history(self) -> tuple[str, str, int]:
        """The identity of its history, when that began, and the number of its last change, the highest of all logs."""
        with translated():
            row = self._connection.execute("SELECT current, begun_at, last_change FROM gatecast_epoch").fetchone()
            return str(row[0]), str(row[1]), int(row[2])

    # --- what goes to a stream --------------------------------------------------------------------------------------

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """The rows of a query that both databases understand."""
        with translated():
            return select_named(self._connection, _in_file(query), *arguments)

    async def become_outbox(self, *, log: UUID, place: str, blocking: Blocking, logs: Ends) -> bool:
        """Empty and close the log, which has arrived in a stream, and bind the file to that one as its outbox."""
        epoch = await self.epoch()
        with self._writing():
            if moved.is_closed(self._connection):
                return False
            _check_unchanged(moved.blocking_of(self._connection), blocking, await self.fetch(QUERIES["ends"]), logs)
            moved.unblock(self._connection)
            for table in moved_server.EMPTIED:
                self._connection.execute(f'DELETE FROM "gatecast_{table}"')
            schema.apply(self._connection, available(OUTBOX_MIGRATIONS))
            for query, arguments in _becoming(epoch, log, place):
                change(self._connection, _in_file(query), *arguments)
            history.begin(self._connection, epoch, behind=0, moment=datetime.now(UTC))
            moved.close(self._connection)
            return True

    # --- what goes to a server --------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Our tables; an application may have others in the same file."""
        with translated():
            found = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return sorted(name for (name,) in found if name.startswith("gatecast_"))

    def columns(self, table: str) -> list[str]:
        """The columns of a table; empty: there is no such table."""
        with translated():
            return [row[1] for row in self._connection.execute(f'PRAGMA table_info("{table}")')]

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[list[Any]]:
        """The rows of a table, some at a time."""
        names = ", ".join(f'"{column}"' for column in columns)
        with translated():
            cursor = self._connection.execute(f'SELECT {names} FROM "{table}"')
            while chunk := cursor.fetchmany(CHUNK):
                yield chunk


class ServerSource:
    """A PostgreSQL database, whose log goes to a stream."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def epoch(self) -> UUID:
        """The identity of its history."""
        [row] = await self.fetch(QUERIES["history"])
        return UUID(row["epoch"])

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """The rows of a query that both databases understand."""
        return await self._database.fetch(query, *arguments)

    async def blocking(self) -> Blocking | None:
        """For which move nobody may change the log; None: everybody may."""
        async with self._database.transaction() as transaction:
            return await moved_server.blocking_of(transaction)

    async def block(self, blocking: Blocking) -> None:
        """Keep every program from changing the log, once those that change it now have ended.

        Raises:
            StorageUnavailable: a program does not end within 10 seconds.
            DatabaseUnsuitable: it is moved to another place, or the role does not own the tables.
        """

        async def once() -> None:
            async with _as_owner(), self._database.transaction() as transaction:
                if not await moved_server.block(transaction, blocking):
                    raise _BLOCKED_MEANWHILE

        await self._database.repeated(once)

    async def unblock(self, run: UUID) -> None:
        """Let every program change it again, if this run has blocked it last."""

        async def once() -> None:
            async with self._database.transaction() as transaction:
                await moved_server.unblock(transaction, run)

        await self._database.repeated(once)

    async def become_outbox(self, *, log: UUID, place: str, blocking: Blocking, logs: Ends) -> bool:
        """Empty and close the log, which has arrived in a stream, and bind the database to that one as its outbox."""
        epoch = await self.epoch()

        async def once() -> bool:
            async with _as_owner(), self._database.transaction() as transaction:
                await moved_server.lock(transaction)
                if await moved_server.is_closed(transaction):
                    return False
                found = await transaction.fetch(QUERIES["ends"])
                _check_unchanged(await moved_server.blocking_of(transaction), blocking, found, logs)
                await moved_server.close(transaction)
                await self._database.apply(transaction, available(OUTBOX_MIGRATIONS))
                for query, arguments in _becoming(epoch, log, place):
                    await transaction.execute(query, *arguments)
                await moved_server.begin_history(transaction)
                return True

        return await self._database.repeated(once)


@asynccontextmanager
async def opened_source(old: OpenStorage, *, to_stream: bool) -> AsyncIterator[Source]:
    """The open storage as what a log is moved from, until the block ends."""
    database = old.storage.database
    if isinstance(database, PostgresDatabase):
        yield ServerSource(database)
    else:
        with FileSource.open(Path(old.location), to_stream=to_stream) as source:
            yield source


@asynccontextmanager
async def _as_owner() -> AsyncIterator[None]:
    try:
        yield
    except StatementFailed as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise DatabaseUnsuitable(
                f"its log has to be closed: {error.__cause__}", "run the command as the owner of the tables"
            ) from error
        raise


def _check_unchanged(found: Blocking | None, wanted: Blocking, rows: Iterable[Row], logs: Ends) -> None:
    """Return if the log is still blocked for this target, and as it was copied.

    Raises:
        DatabaseUnsuitable: it is not.
    """
    ends = {(row["gateway_id"], row["log_id"], row["head"]) for row in rows}
    if found is None or found.target != wanted.target or (logs is not None and ends != logs):
        raise DatabaseUnsuitable(
            "the log has arrived in the stream, but was changed here since it was copied",
            "use one of both; what came since is not in the other one",
        )


def _becoming(epoch: UUID, log: UUID, place: str) -> list[tuple[LiteralString, tuple[object, ...]]]:
    """The statements, with their arguments, by which the database remembers what is in the log of the stream."""
    return [
        (QUERIES["mark_gateways"], (str(epoch),)),
        (QUERIES["bind"], (str(log), place)),
        (QUERIES["empty_logs"], ()),
        (QUERIES["begin_identity"], (uuid4(),)),
    ]


def _readable(stored: bytes) -> str | bytes:
    """A text; bytes where it is none, so that this value alone is at fault and not the whole answer."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def _in_file(query: LiteralString) -> LiteralString:
    return query.replace("gatecast.", "gatecast_")
