"""A database that an earlier release has made and used is brought up to date in place, and loses nothing."""

from __future__ import annotations

import asyncio
import itertools
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from gatecast.controlplane.migrations import MIGRATIONS as CONTROL_PLANE
from gatecast.errors import SchemaMissing, SchemaTooNew
from gatecast.hub import prepare_schema
from gatecast.storage.connect import open_storage
from gatecast.storage.contract import ReadRequest, Storage
from gatecast.storage.migrations import SchemaNeed, available, missing
from gatecast.storage.postgres.function_files import function_files
from gatecast.testing.contracts.backend import make_event, publish
from gatecast.testing.postgres_server import PostgresServer

_DUMPS = Path(__file__).parent / "upgrades"

_numbers = itertools.count(1)

#: What a catalogue says, in words that do not depend on the order in which things were made.
_CATALOGUE = {
    "columns": """
        SELECT table_schema || '.' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
               || coalesce(column_default, '') || ' ' || coalesce(collation_name, '')
        FROM information_schema.columns WHERE table_schema IN ('gatecast', 'public')""",
    "constraints": """
        SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace IN ('gatecast'::regnamespace, 'public'::regnamespace) AND contype <> 'n'""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname IN ('gatecast', 'public')",
    "functions": """
        SELECT oid::regprocedure || ' ' || prosrc || coalesce(array_to_string(proconfig, ','), '') FROM pg_proc
        WHERE pronamespace = 'gatecast'::regnamespace AND (proname ~ '_v[0-9]+$' OR proname = 'publish')""",
}


@pytest.fixture
def databases(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """Two empty databases: `old` and `fresh`."""
    names = {each: f"upgrade_{each}_{next(_numbers)}" for each in ("old", "fresh")}
    for name in names.values():
        asyncio.run(postgres.create_database(name))
    asyncio.run(_load(postgres.url(names["old"]), (_DUMPS / "postgres.sql").read_text()))
    yield {each: postgres.url(name) for each, name in names.items()}
    for name in names.values():
        asyncio.run(_load(postgres.url(), f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _load(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


#: Files of release 0.1.0, and of the last one whose tables had no prefix.
_SQLITE = ("sqlite.sql", "sqlite_0017.sql")


def _load_sqlite(file: Path, dump: str = "sqlite.sql", before: str = "") -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(before + (_DUMPS / dump).read_text())


@asynccontextmanager
async def _upgraded(url: str) -> AsyncIterator[Storage]:
    async with open_storage(url, extra_migrations=CONTROL_PLANE) as opened:
        await opened.storage.database.migrate()
        assert await opened.storage.database.schema_need() is SchemaNeed.NOTHING
        yield opened.storage


async def _check_content(storage: Storage) -> None:
    """Three events of gateway-2 with ids 1, 2 and 3, then what the control plane published; the log goes on."""
    heads = (await storage.log.changed_since(0)).heads
    requests = [ReadRequest(gateway_id=each, after=0, max_events=10, max_bytes=2**20) for each in sorted(heads)]
    results = [result for result in await storage.log.read(requests) if result is not None]
    assert sorted([event.offset for event in result.events] for result in results) == [[1, 2], [1, 2, 3, 4, 5]]
    [longest] = [result for result in results if result.head == 5]
    assert [event.event_id for event in longest.events[:3]] == [UUID(int=1), UUID(int=2), UUID(int=3)]
    assert [event.data for event in longest.events[:3]] == [{"number": n} for n in range(3)]
    gateway_id = longest.events[0].gateway_id
    [receipt] = await publish(storage, make_event(gateway_id))
    assert receipt.position.offset == 6


async def test_a_postgresql_database_keeps_what_it_held(databases: dict[str, str]) -> None:
    async with _upgraded(databases["old"]) as storage:
        await _check_content(storage)


async def test_a_sqlite_file_keeps_what_it_held(tmp_path: Path) -> None:
    _load_sqlite(tmp_path / "old.db")
    async with _upgraded(f"sqlite:///{tmp_path}/old.db") as storage:
        await _check_content(storage)


async def test_an_upgraded_postgresql_database_equals_a_fresh_one(databases: dict[str, str]) -> None:
    found = {}
    for name, url in databases.items():
        async with _upgraded(url):
            connection = await asyncpg.connect(url)
            found[name] = {part: {row[0] for row in await connection.fetch(text)} for part, text in _CATALOGUE.items()}
            await connection.close()
    assert found["old"] == found["fresh"]


@pytest.mark.parametrize("dump", _SQLITE)
async def test_an_upgraded_sqlite_file_equals_a_fresh_one(tmp_path: Path, dump: str) -> None:
    """But for the table in which earlier releases look for migrations that they do not know."""
    _load_sqlite(tmp_path / "old.db", dump)
    found = []
    for name in ("old", "fresh"):
        async with _upgraded(f"sqlite:///{tmp_path}/{name}.db"):
            found.append(_schema_of(tmp_path / f"{name}.db"))
    assert {name for name in found[0] if name not in found[1]} == {"schema_migrations"}
    del found[0]["schema_migrations"]
    assert found[0] == found[1]
    assert all(name.startswith("gatecast_") for name in found[1])


def _schema_of(file: Path) -> dict[str, str]:
    """The text of each table, index and trigger; a name that was changed stands in quotes."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return {name: re.sub(r"\s+", " ", text).replace('"', "") for name, text in rows}


async def test_a_sqlite_file_gets_prefixed_tables_and_keeps_every_row(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    _load_sqlite(file, "sqlite_0017.sql")
    before = _rows_of(file)
    async with open_storage(f"sqlite:///{file}", extra_migrations=CONTROL_PLANE) as opened:
        storage = opened.storage
        assert await storage.database.schema_need() is SchemaNeed.BEHIND
        with pytest.raises(SchemaMissing):
            await prepare_schema(storage, "auto")
        assert _rows_of(file) == before
        await storage.database.migrate()
        assert await storage.database.schema_need() is SchemaNeed.NOTHING
        assert await storage.database.migrate() == []
        after = _rows_of(file)
        for name, rows in before.items():
            if name != "schema_migrations":
                assert after[name if name.startswith("gatecast_") else f"gatecast_{name}"][: len(rows)] == rows
        assert (await storage.log.changed_since(0)).heads == {"gateway-1": 3, "gateway-2": 1}
        status = (await storage.presence.status(["gateway-1"]))["gateway-1"]
        assert (status.sent, status.confirmed) == (2, 2)
        kinds = [each.kind for each in await storage.outcomes.of_events("gateway-1", [1, 3])]
        assert kinds == ["applied", "rejected"]
        assert await storage.outcomes.deliveries("gateway-1", 1)
        # Its triggers are there, and refer to the new names.
        with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.IntegrityError, match="a rule"):
            connection.execute(
                "INSERT INTO gatecast_events SELECT *, NULL FROM (SELECT 9, 9, '', '', '', '', '', 0, '', '', '', '')"
            )


def _rows_of(file: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(file)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}


async def test_an_earlier_release_refuses_a_sqlite_file_with_prefixed_tables(tmp_path: Path) -> None:
    """What it does when it opens a file: it reads the numbers of its table, and compares them with those it knows."""
    _load_sqlite(tmp_path / "old.db", "sqlite_0017.sql")
    async with _upgraded(f"sqlite:///{tmp_path}/old.db"):
        with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
            numbers = [number for (number,) in connection.execute("SELECT number FROM schema_migrations")]
        known = [each for each in available("gatecast.storage.sqlite.migrations") if each.number <= 17]
        with pytest.raises(SchemaTooNew, match="18"):
            missing(known, numbers)


_OF_THE_APPLICATION = """
    CREATE TABLE orders (id integer PRIMARY KEY);
    CREATE TABLE app_events (id integer PRIMARY KEY, what text);
    CREATE INDEX by_what ON app_events (what);
    CREATE VIEW recent AS SELECT what FROM app_events;
    INSERT INTO app_events VALUES (1, 'moved');
"""


async def test_an_applications_own_tables_stay_as_they_are(tmp_path: Path) -> None:
    """Beside tables of an earlier release, and in a file that had none of ours: there they may be called like ours."""
    _load_sqlite(tmp_path / "old.db", "sqlite_0017.sql", before=_OF_THE_APPLICATION)
    async with _upgraded(f"sqlite:///{tmp_path}/old.db"):
        assert _rows_of(tmp_path / "old.db")["app_events"] == [(1, "moved")]
        assert {"recent", "by_what"} <= _schema_of(tmp_path / "old.db").keys()
    file = tmp_path / "fresh.db"
    names = ("events", "epoch", "pods", "connections", "outcomes", "cursors", "passages", "gateway_streams")
    with closing(sqlite3.connect(file)) as connection:
        for name in names:
            connection.execute(f"CREATE TABLE {name} (id integer PRIMARY KEY, what text)")
            connection.execute(f"INSERT INTO {name} VALUES (1, 'ours')")
        connection.execute("CREATE TABLE schema_migrations (version text PRIMARY KEY)")
        connection.execute("INSERT INTO schema_migrations VALUES ('20260101')")
        connection.commit()
    async with open_storage(f"sqlite:///{file}", extra_migrations=CONTROL_PLANE) as opened:
        assert await opened.storage.database.schema_need() is SchemaNeed.FRESH
        await prepare_schema(opened.storage, "auto")
        await opened.storage.log.register("gateway-1")
        [receipt] = await publish(opened.storage, make_event("gateway-1"))
        assert receipt.position.offset == 1
    rows = _rows_of(file)
    assert all(rows[name] == [(1, "ours")] for name in names)
    assert rows["schema_migrations"] == [("20260101",)]


async def test_pods_of_the_older_release_go_on_after_the_migration(databases: dict[str, str]) -> None:
    """They call the functions that they know, and what they publish is read by pods of this release."""
    async with _upgraded(databases["old"]) as storage:
        [gateway_id] = [each for each, head in (await storage.log.changed_since(0)).heads.items() if head == 5]
        connection = await asyncpg.connect(databases["old"])
        status = await connection.fetchval(
            "SELECT status FROM gatecast.append_event($1, gen_random_uuid(), 'api.updated', 'UPDATE', 'Api', 'api-1', "
            "'{}', now(), NULL, true, true)",
            gateway_id,
        )
        await connection.close()
        assert status == "stored"
        request = ReadRequest(gateway_id=gateway_id, after=5, max_events=10, max_bytes=2**20)
        [result] = await storage.log.read([request])
        assert result is not None
        assert [event.offset for event in result.events] == [6]


async def test_a_changed_function_is_applied_by_migrating_and_demanded_before(databases: dict[str, str]) -> None:
    async with _upgraded(databases["fresh"]) as storage:
        connection = await asyncpg.connect(databases["fresh"])
        await connection.execute("DELETE FROM gatecast.schema_functions WHERE name = 'publishing'")
        await connection.execute("DROP FUNCTION gatecast.hint_v1")
        assert await storage.database.schema_need() is SchemaNeed.BEHIND
        with pytest.raises(SchemaMissing):
            await prepare_schema(storage, "auto")
        await storage.database.migrate()
        assert await connection.fetchval("SELECT to_regproc('gatecast.hint_v1')") is not None
        await connection.close()


def test_every_function_names_its_version() -> None:
    """All but those that applications call."""
    names = {name for file in function_files() for name in re.findall(r"FUNCTION gatecast\.(\w+)", file.text)}
    assert {name for name in names if not re.search(r"_v\d+$", name)} == {"publish", "register_gateway"}
