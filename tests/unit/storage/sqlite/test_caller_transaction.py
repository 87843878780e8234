from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gatecast.errors import LogHeld, StorageUnavailable, TransactionUnusable, UnknownGateway
from gatecast.storage.sqlite import SqliteStorage
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event, offsets_of, publish, read


@asynccontextmanager
async def _ready(file: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        yield storage


async def test_a_change_that_began_a_transaction_carries_its_event(file: Path) -> None:
    """The driver's own way: it begins at the first change, `commit()` ends it."""
    async with _ready(file) as storage:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE setting (name text)")
            connection.execute("INSERT INTO setting VALUES ('x')")
            await storage.log.publish_in(connection, [make_event()])
            assert connection.in_transaction
            connection.rollback()
            assert (await read(storage)).head == 0
            connection.execute("INSERT INTO setting VALUES ('y')")
            await storage.log.publish_in(connection, [make_event()])
            connection.commit()
        assert len(await ids_of(storage)) == 1


async def test_the_callers_way_to_shape_rows_does_not_matter(file: Path) -> None:
    async with _ready(file) as storage:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.row_factory = lambda _cursor, _row: "something else"
            connection.execute("BEGIN")
            event = make_event()
            first = await storage.log.publish_in(connection, [event])
            again = await storage.log.publish_in(connection, [event])
            connection.execute("COMMIT")
        assert offsets_of([*first, *again]) == [1, 1]


async def test_a_connection_in_no_transaction_is_refused(file: Path) -> None:
    async with _ready(file) as storage:
        with closing(sqlite3.connect(file)) as connection:
            with pytest.raises(TransactionUnusable, match="BEGIN IMMEDIATE"):
                await storage.log.publish_in(connection, [make_event()])
            assert not connection.in_transaction


async def test_a_connection_to_another_database_is_refused(file: Path, tmp_path: Path) -> None:
    async with _ready(file) as storage:
        for other, named in ((tmp_path / "other.db", "other.db"), (":memory:", "in memory")):
            with closing(sqlite3.connect(other)) as connection:
                connection.execute("BEGIN")
                with pytest.raises(TransactionUnusable, match=named):
                    await storage.log.publish_in(connection, [make_event()])


async def test_a_transaction_of_another_database_is_refused(file: Path, tmp_path: Path) -> None:
    async with (
        _ready(file) as storage,
        SqliteStorage.open(tmp_path / "other.db") as other,
        other.database.transaction() as transaction,
    ):
        with pytest.raises(TransactionUnusable):
            await storage.log.publish_in(transaction, [make_event()])


async def test_a_transaction_of_another_instance_on_the_same_file_is_welcome(file: Path) -> None:
    async with _ready(file) as storage, SqliteStorage.open(file) as second:
        async with second.database.transaction() as transaction:
            await storage.log.publish_in(transaction, [make_event()])
        assert len(await ids_of(storage)) == 1


async def test_the_same_file_by_another_name_is_welcome(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(file)
    async with _ready(file) as storage:
        with closing(sqlite3.connect(tmp_path / "link.db")) as connection, connection:
            connection.execute("BEGIN")
            await storage.log.publish_in(connection, [make_event()])
        assert len(await ids_of(storage)) == 1


async def test_a_closed_connection_is_refused(file: Path) -> None:
    async with _ready(file) as storage:
        connection = sqlite3.connect(file)
        connection.close()
        with pytest.raises(TransactionUnusable, match="closed"):
            await storage.log.publish_in(connection, [make_event()])


async def test_a_connection_of_another_thread_is_refused(file: Path) -> None:
    async with _ready(file) as storage:
        with ThreadPoolExecutor(max_workers=1) as thread:
            connection = thread.submit(sqlite3.connect, file).result()
            with pytest.raises(TransactionUnusable, match="thread"):
                await storage.log.publish_in(connection, [make_event()])
            thread.submit(connection.close).result()


async def test_a_transaction_that_cannot_get_the_write_lock_says_so(file: Path) -> None:
    """A transaction that only read until now cannot always begin to write; it stays as it was."""
    async with _ready(file) as storage:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM gatecast_events").fetchall()
            await publish(storage, make_event())
            with pytest.raises(StorageUnavailable, match="begin it with BEGIN IMMEDIATE") as refused:
                await storage.log.publish_in(connection, [make_event()])
            # Nobody holds anything: to wait for another transaction would be the wrong advice.
            assert not isinstance(refused.value, LogHeld)
            assert connection.in_transaction
            connection.execute("ROLLBACK")


async def test_a_refused_group_leaves_no_savepoint_behind(file: Path) -> None:
    async with _ready(file) as storage:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            with pytest.raises(UnknownGateway):
                await storage.log.publish_in(connection, [make_event("gateway-unknown")])
            with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
                connection.execute("RELEASE gatecast")
            connection.execute("ROLLBACK")
