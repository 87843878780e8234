from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatecast.errors import (
    LogHeld,
    SchemaMissing,
    SchemaTooNew,
    StatementFailed,
    StorageUnavailable,
    TransactionUnusable,
    ValueRefused,
)
from gatecast.events import Action, Event
from gatecast.storage.contract import Storage
from gatecast.storage.migrations import SchemaNeed, available
from gatecast.storage.sqlite import SqliteStorage, connection, database, statements
from gatecast.storage.sqlite.storage import MIGRATIONS
from gatecast.testing.contracts.backend import make_event, publish, read


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for locks end almost at once."""
    monkeypatch.setattr(connection, "BUSY_TIME_LIMIT", 0.01)
    monkeypatch.setattr(database, "BUSY_TIME_LIMIT", 0.01)


async def _rows(storage: SqliteStorage) -> list[object]:
    return [row["number"] for row in await storage.database.fetch("SELECT number FROM note ORDER BY number")]


#: Every migration of the event log.
_NUMBERS = [migration.number for migration in available(MIGRATIONS)]


async def _note(storage: SqliteStorage) -> None:
    async with storage.database.transaction() as transaction:
        await transaction.execute("CREATE TABLE note (number integer PRIMARY KEY)")


async def test_an_empty_file_has_no_schema_yet(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        assert await storage.database.schema_version() == 0
        assert await storage.database.schema_need() is SchemaNeed.FRESH
        with pytest.raises(SchemaMissing):
            await storage.log.publish([[make_event()]])
        with pytest.raises(SchemaMissing):
            await storage.log.changed_since(0)
        assert await storage.database.migrate() == _NUMBERS
        assert await storage.database.schema_version() == _NUMBERS[-1]
        assert await storage.database.schema_need() is SchemaNeed.NOTHING


async def test_a_newer_schema_is_refused(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        async with storage.database.transaction() as transaction:
            await transaction.execute("INSERT INTO gatecast_schema_migrations VALUES (999, 'from_the_future', now())")
        with pytest.raises(SchemaTooNew) as caught:
            await storage.database.migrate()
        assert (caught.value.found, caught.value.supported) == (999, _NUMBERS[-1])
        with pytest.raises(SchemaTooNew):
            await storage.database.schema_need()


async def test_further_migrations_follow_the_own_ones(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "further_steps").mkdir()
    script = "CREATE TABLE one (a text DEFAULT 'x;y'); -- two; statements\nCREATE TABLE two (a text)"
    (tmp_path / "further_steps" / "9001_further.sql").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)
    async with SqliteStorage.open(file, migrations=(MIGRATIONS, "further_steps")) as storage:
        assert await storage.database.migrate() == [*_NUMBERS, 9001]
        assert await storage.database.schema_version() == _NUMBERS[-1]
        assert await storage.database.fetch("SELECT a FROM one UNION SELECT a FROM two") == []


async def test_a_migration_that_fails_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_steps").mkdir()
    (tmp_path / "faulty_steps" / "9001_faulty.sql").write_text("CREATE TABLE one (a text); CREATE NONSENSE;")
    monkeypatch.syspath_prepend(tmp_path)
    async with SqliteStorage.open(file, migrations=(MIGRATIONS, "faulty_steps")) as storage:
        with pytest.raises(StatementFailed, match="syntax error"):
            await storage.database.migrate()
        assert await storage.database.schema_version() == 0
        assert await storage.database.schema_need() is SchemaNeed.FRESH
        with pytest.raises(SchemaMissing):
            await storage.database.fetch("SELECT a FROM one")


async def test_an_ended_transaction_takes_no_statement(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        async with storage.database.transaction() as transaction:
            pass
        with pytest.raises(TransactionUnusable):
            await transaction.fetch("SELECT 1")


async def test_a_commit_under_way_is_awaited_when_cancelled(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStorage.open(file) as storage:
        await _note(storage)
        committing = asyncio.Event()
        loop = asyncio.get_running_loop()

        def announced(of: sqlite3.Connection) -> None:
            loop.call_soon_threadsafe(committing.set)
            statements.commit(of)

        monkeypatch.setattr(database, "commit", announced)

        async def write() -> None:
            async with storage.database.transaction() as transaction:
                await transaction.execute("INSERT INTO note VALUES (1)")

        task = asyncio.create_task(write())
        await committing.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await _rows(storage) == [1]


async def test_a_full_disk_is_unavailable_and_leaves_nothing(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register("gateway-1")
        await publish(storage, make_event())
        await _limit_pages(storage, 60)
        with pytest.raises(StorageUnavailable, match="full"):
            await storage.log.publish([[make_event(), make_event(text="x" * 500_000)]])
        assert (await read(storage)).head == 1
        await _limit_pages(storage, 1_000_000)
        await publish(storage, make_event(text="x" * 500_000))
        assert (await read(storage)).head == 2


async def test_a_transaction_that_lost_a_statement_to_a_full_disk_stays_whole_or_nothing(file: Path) -> None:
    """Whether SQLite rolled everything back or the statement only: nothing is ever committed one by one."""
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await _note(storage)
        await _limit_pages(storage, 60)
        with suppress(StorageUnavailable):
            async with storage.database.transaction() as transaction:
                await transaction.execute("INSERT INTO note VALUES (1)")
                with pytest.raises(StorageUnavailable):
                    await transaction.execute(
                        "INSERT INTO gatecast_pods (pod_id, lease_until, life) VALUES (hex(zeroblob(1000000)), '', '')"
                    )
                await transaction.execute("INSERT INTO note VALUES (2)")
        assert await _rows(storage) in ([], [1, 2])


async def test_a_transaction_that_sqlite_rolled_back_takes_no_statement(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await _note(storage)
        with suppress(StorageUnavailable):
            async with storage.database.transaction() as transaction:
                await transaction.execute("INSERT INTO note VALUES (1)")
                with pytest.raises(StatementFailed):
                    await transaction.execute("INSERT OR ROLLBACK INTO note VALUES (1)")
                with pytest.raises(StorageUnavailable, match="rolled back"):
                    await transaction.execute("INSERT INTO note VALUES (2)")
        assert await _rows(storage) == []


@pytest.mark.usefixtures("_impatient")
async def test_a_lock_held_elsewhere_for_too_long_is_unavailable(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register("gateway-1")
        with closing(sqlite3.connect(file)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogHeld, match="every log of this file, and did not end"):
                await storage.log.publish([[make_event()]])
            with pytest.raises(LogHeld, match="every log of this file, and did not end"):
                async with storage.database.transaction():
                    pass
            assert (await read(storage)).head == 0
        await publish(storage, make_event())


@pytest.mark.usefixtures("_impatient")
async def test_a_transaction_held_here_for_too_long_is_unavailable(file: Path) -> None:
    """Publishing beside one's own open transaction ends with an error and not in a deadlock."""
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register("gateway-1")
        async with storage.database.transaction() as transaction:
            with pytest.raises(LogHeld, match="every log of this file in this process, and did not end"):
                await storage.log.publish([[make_event()]])
            await storage.log.publish_in(transaction, [make_event()])
        assert (await read(storage)).head == 1


async def test_faulty_statements_and_broken_constraints_are_errors_of_their_statement(file: Path) -> None:
    """The caller gets one of our errors, and no loop ends because of it (promise P11)."""
    async with SqliteStorage.open(file) as storage:
        await _note(storage)
        with pytest.raises(StatementFailed, match="syntax error"):
            await storage.database.fetch("SELEKT 1")
        with pytest.raises(ValueRefused):
            await storage.database.fetch("SELECT $1", "\ud800")
        with pytest.raises(ValueRefused):
            await storage.database.fetch("SELECT $1", 2**64)
        with pytest.raises(StatementFailed, match="SQLITE_CONSTRAINT"):
            async with storage.database.transaction() as transaction:
                await transaction.execute("INSERT INTO note VALUES (1), (1)")


async def test_the_reading_connection_cannot_write(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await _note(storage)
        with pytest.raises(StorageUnavailable, match="readonly"):
            await storage.database.fetch("INSERT INTO note VALUES (1)")


async def test_values_are_stored_as_text(file: Path) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    event = Event(gateway_id="g", type="t", action=Action.CREATE, entity_type="e", entity_id="i")
    async with SqliteStorage.open(file, clock=lambda: noon) as storage:
        await storage.database.migrate()
        await storage.log.register("g")
        await publish(storage, event)
        [row] = await storage.database.fetch("SELECT event_id, recorded_at, now() AS now FROM gatecast_events")
    moment = "2026-01-02 12:00:00.000000+00:00"
    assert dict(row) == {"event_id": str(event.event_id), "recorded_at": moment, "now": moment}


async def test_every_commit_is_synced(file: Path) -> None:
    async with SqliteStorage.open(file) as storage, storage.database.transaction() as transaction:
        modes = [
            await transaction.fetch_one("PRAGMA synchronous"),
            await transaction.fetch_one("PRAGMA journal_mode"),
            await transaction.fetch_one("PRAGMA foreign_keys"),
        ]
    assert modes == [{"synchronous": 2}, {"journal_mode": "wal"}, {"foreign_keys": 1}]


async def _limit_pages(storage: Storage, pages: int) -> None:
    limits = {60: "PRAGMA max_page_count = 60", 1_000_000: "PRAGMA max_page_count = 1000000"}
    async with storage.database.transaction() as transaction:
        await transaction.fetch(limits[pages])
