"""Migrations of PostgreSQL: applied once, even by pods that start together, and never over a newer schema."""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator

import asyncpg
import pytest

from gatecast.errors import SchemaMissing, SchemaTooNew, StatementFailed, StorageUnavailable
from gatecast.storage.migrations import SchemaNeed, available
from gatecast.storage.postgres import PostgresStorage
from gatecast.storage.postgres.storage import MIGRATIONS
from gatecast.testing.contracts.backend import GATEWAY, make_event, publish
from gatecast.testing.contracts.held_log import HeldLog
from gatecast.testing.postgres_server import PostgresServer

_numbers = itertools.count(1)

#: Every migration of the event log.
_NUMBERS = [migration.number for migration in available(MIGRATIONS)]

_MIGRATE = """
import asyncio, sys
from gatecast.storage.postgres import PostgresStorage

async def migrate():
    async with PostgresStorage.open(sys.argv[1]) as storage:
        await storage.database.ping()
        print("ready", flush=True)
        sys.stdin.readline()
        print(await storage.database.migrate())

asyncio.run(migrate())
"""


@pytest.fixture
def empty_url(postgres: PostgresServer) -> Iterator[str]:
    """A database without any schema of ours."""
    name = f"empty_{next(_numbers)}"
    asyncio.run(postgres.create_database(name))
    yield postgres.url(name)
    asyncio.run(_drop(postgres, name))


async def _drop(server: PostgresServer, name: str) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await connection.close()


async def _start_process(url: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _MIGRATE, url, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_two_processes_that_start_at_once_migrate_once(empty_url: str) -> None:
    processes = [await _start_process(empty_url) for _ in range(2)]
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert sorted(output for output, _ in answers) == [f"{_NUMBERS}\n".encode(), b"[]\n"]
    assert [process.returncode for process in processes] == [0, 0]


async def test_a_migration_that_fails_leaves_nothing(empty_url: str) -> None:
    """The whole migration is one transaction: what stands in its way can be removed, and it is repeated."""
    async with PostgresStorage.open(empty_url) as storage:
        connection = await asyncpg.connect(empty_url)
        await connection.execute("CREATE SCHEMA gatecast; CREATE TABLE gatecast.outcomes (in_the_way int)")
        with pytest.raises(StatementFailed, match="already exists"):
            await storage.database.migrate()
        assert await storage.database.schema_need() is SchemaNeed.FRESH
        await connection.execute("DROP TABLE gatecast.outcomes")
        assert await storage.database.migrate() == _NUMBERS
        assert await storage.database.schema_need() is SchemaNeed.NOTHING
        await connection.close()


async def test_a_newer_schema_is_refused(postgres_url: str) -> None:
    async with PostgresStorage.open(postgres_url) as storage:
        async with storage.database.transaction() as transaction:
            await transaction.execute("INSERT INTO gatecast.schema_migrations (number, name) VALUES (999, 'newer')")
        for refused in (storage.database.migrate, storage.database.schema_need):
            with pytest.raises(SchemaTooNew) as caught:
                await refused()
            assert (caught.value.found, caught.value.supported) == (999, _NUMBERS[-1])


async def test_a_database_without_the_schema_is_told_from_one_that_is_away(empty_url: str) -> None:
    """`cannot read` is never `fresh`."""
    async with PostgresStorage.open(empty_url) as storage:
        assert await storage.database.schema_version() == 0
        assert await storage.database.schema_need() is SchemaNeed.FRESH
        with pytest.raises(SchemaMissing):
            await storage.log.changed_since(0)
    async with PostgresStorage.open("postgresql://postgres@127.0.0.1:1/nowhere") as storage:
        with pytest.raises(StorageUnavailable):
            await storage.database.schema_need()


async def test_migrating_does_not_wait_for_logs_that_are_held(postgres_url: str) -> None:
    """A pod that starts while an application holds a log is ready all the same."""
    async with PostgresStorage.open(postgres_url) as storage:
        await storage.log.register(GATEWAY)
        async with HeldLog.hold(postgres_url, GATEWAY):
            assert await storage.database.migrate() == []
        await publish(storage, make_event())
