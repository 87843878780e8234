"""SQLite keeps the contract of storage."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from gatecast.storage.contract import Storage
from gatecast.storage.sqlite import SqliteStorage
from gatecast.testing.storage_suite import StorageContract


class TestSqliteStorage(StorageContract):
    """The whole suite, on one file."""

    commits_overlap = False

    @asynccontextmanager
    async def open_storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        """The file in `tmp_path`."""
        async with SqliteStorage.open(tmp_path / "events.db") as storage:
            await storage.database.migrate()
            yield storage

    @asynccontextmanager
    async def caller_transaction(self, storage: Storage, tmp_path: Path) -> AsyncIterator[object]:  # noqa: ARG002 - other backends need it
        """A transaction of the standard library's driver."""
        with closing(sqlite3.connect(tmp_path / "events.db")) as connection, connection:
            connection.execute("BEGIN")
            yield connection
