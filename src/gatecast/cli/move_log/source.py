"""The file that a log is moved from."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.sqlite import moved
from gatecast.storage.sqlite.connection import open_writer
from gatecast.storage.sqlite.driver_errors import translated

#: Most rows in memory at once.
CHUNK = 1_000


class Source:
    """An SQLite file; for use in one thread. Errors of the driver become those of `gatecast.errors`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Source]:
        """The file, until the block ends.

        Raises:
            StorageUnavailable: it cannot be opened.
        """
        with translated():
            connection = open_writer(path)
        with closing(connection):
            yield cls(connection)

    @property
    def target(self) -> UUID | None:
        """The name of the database that it is being moved to; None: it is open to writers."""
        with translated():
            return moved.target_of(self._connection)

    def block(self, target: UUID) -> None:
        """Keep every program from writing to our tables, once present writers have ended.

        Raises:
            LogHeld: another program holds the file for longer than 10 s.
            DatabaseUnsuitable: another move has begun just now.
        """
        with self._writing():
            if moved.target_of(self._connection) is not None:
                raise DatabaseUnsuitable("another move of this file has begun", "wait until that has ended")
            moved.block(self._connection, self.tables(), target)

    def unblock(self) -> None:
        """Let every program write again."""
        with self._writing():
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

    def epoch(self) -> tuple[str, str, int]:
        """The identity of its history, when that began, and the number of its last change, the highest of all logs."""
        with translated():
            row = self._connection.execute("SELECT current, begun_at, last_change FROM gatecast_epoch").fetchone()
            return str(row[0]), str(row[1]), int(row[2])

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
