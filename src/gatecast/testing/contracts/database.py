"""The contract of the database itself: transactions for the parts that keep tables of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

from gatecast.storage.contract import Storage
from gatecast.testing.contracts.backend import GATEWAY, StorageBackend, make_event, publish, read, rolled_back

_CREATE = "CREATE TABLE note (number integer PRIMARY KEY, words text NOT NULL)"
_INSERT = "INSERT INTO note (number, words) VALUES ($1, $2)"
_SELECT = "SELECT number, words FROM note WHERE number >= $1 ORDER BY number"


async def _note(storage: Storage) -> None:
    async with storage.database.transaction() as transaction:
        await transaction.execute(_CREATE)


class DatabaseContract(StorageBackend):
    """`Database` and `Transaction`."""

    async def test_an_open_database_answers(self, tmp_path: Path) -> None:
        """A ping returns."""
        async with self.open_storage(tmp_path) as storage:
            await storage.database.ping()

    async def test_migrating_again_does_nothing(self, tmp_path: Path) -> None:
        """A migrated database needs no more, from any number of pods at once."""
        async with self.open_storage(tmp_path) as storage, self.open_second(tmp_path) as second:
            assert await storage.database.schema_version() >= 1
            again = await asyncio.gather(*(one.database.migrate() for one in (storage, second, storage)))
            assert [list(numbers) for numbers in again] == [[], [], []]

    async def test_a_transaction_commits_at_its_end(self, tmp_path: Path) -> None:
        """Rows written in the block are there afterwards, for everybody; inside, for the transaction itself."""
        async with self.open_storage(tmp_path) as storage, self.open_second(tmp_path) as second:
            await _note(storage)
            async with storage.database.transaction() as transaction:
                assert await transaction.execute(_INSERT, 1, "one") == 1
                assert await transaction.execute(_INSERT, 2, "two") == 1
                rows = await transaction.fetch(_SELECT, 1)
                assert [dict(row) for row in rows] == [{"number": 1, "words": "one"}, {"number": 2, "words": "two"}]
                assert await second.database.fetch(_SELECT, 1) == []
            assert [row["words"] for row in await second.database.fetch(_SELECT, 2)] == ["two"]

    async def test_fetching_one_row(self, tmp_path: Path) -> None:
        """The first row, or None."""
        async with self.open_storage(tmp_path) as storage:
            await _note(storage)
            async with storage.database.transaction() as transaction:
                assert await transaction.fetch_one(_SELECT, 1) is None
                await transaction.execute(_INSERT, 1, "one")
                row = await transaction.fetch_one(_SELECT, 1)
                assert row is not None
                assert row["words"] == "one"

    async def test_a_statement_tells_how_many_rows_it_changed(self, tmp_path: Path) -> None:
        """None, one or many."""
        async with self.open_storage(tmp_path) as storage:
            await _note(storage)
            async with storage.database.transaction() as transaction:
                for number in range(3):
                    await transaction.execute(_INSERT, number, "x")
                assert await transaction.execute("UPDATE note SET words = $1 WHERE number > $2", "y", 0) == 2
                assert await transaction.execute("DELETE FROM note WHERE number = $1", 7) == 0

    async def test_a_transaction_that_raises_is_rolled_back(self, tmp_path: Path) -> None:
        """Nothing of it remains, and the database works on."""
        async with self.open_storage(tmp_path) as storage:
            await _note(storage)
            async with rolled_back(storage.database.transaction()) as transaction:
                await transaction.execute(_INSERT, 1, "one")
            assert await storage.database.fetch(_SELECT, 0) == []
            async with storage.database.transaction() as transaction:
                await transaction.execute(_INSERT, 1, "one")
            assert len(await storage.database.fetch(_SELECT, 0)) == 1

    async def test_a_transaction_that_is_cancelled_is_rolled_back(self, tmp_path: Path) -> None:
        """Cancelled while it waits for something else, it leaves nothing and holds nothing."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await _note(storage)
            written = asyncio.Event()

            async def hang() -> None:
                async with storage.database.transaction() as transaction:
                    await transaction.execute(_INSERT, 1, "one")
                    await storage.log.publish_in(transaction, [make_event()])
                    written.set()
                    await asyncio.get_running_loop().create_future()

            task = asyncio.create_task(hang())
            await written.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            assert await storage.database.fetch(_SELECT, 0) == []
            await publish(storage, make_event())
            assert (await read(storage)).head == 1

    async def test_a_transaction_cancelled_at_any_moment_is_whole_or_nothing(self, tmp_path: Path) -> None:
        """Wherever the cancellation lands, both rows exist or none, and the next transaction works."""
        async with self.open_storage(tmp_path) as storage:
            await _note(storage)
            for number in range(0, 60, 2):
                task = asyncio.create_task(_write_two(storage, number))
                for _ in range(number // 2):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                wanted: LiteralString = "SELECT number FROM note WHERE number >= $1 AND number <= $1 + 1"
                rows = await storage.database.fetch(wanted, number)
                assert len(rows) in {0, 2}
                # At once: what was cancelled must have left nothing on the connection.
                await _write_two(storage, 1_000 + number)
                assert len(await storage.database.fetch(wanted, 1_000 + number)) == 2

    async def test_a_publish_cancelled_at_any_moment_is_whole_or_nothing(self, tmp_path: Path) -> None:
        """Wherever the cancellation lands, the whole group is in the log or nothing of it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for steps in range(30):
                head = (await read(storage)).head
                task = asyncio.create_task(publish(storage, make_event(), make_event(), make_event()))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                # One more publish waits for whatever is still on its way.
                await publish(storage, make_event())
                assert (await read(storage)).head - head in {1, 4}

    async def test_the_databases_functions_are_the_same(self, tmp_path: Path) -> None:
        """Portable SQL may use `now()`, and conflicts that do nothing."""
        async with self.open_storage(tmp_path) as storage:
            await _note(storage)
            async with storage.database.transaction() as transaction:
                row = await transaction.fetch_one("SELECT now() AS first")
                assert row is not None
                assert row["first"] is not None
                for expected in (1, 0):
                    query = "INSERT INTO note (number, words) VALUES ($1, $2) ON CONFLICT (number) DO NOTHING"
                    assert await transaction.execute(query, 1, str(uuid4())) == expected


async def _write_two(storage: Storage, number: int) -> None:
    async with storage.database.transaction() as transaction:
        await transaction.execute(_INSERT, number, "first")
        await transaction.execute(_INSERT, number + 1, "second")
