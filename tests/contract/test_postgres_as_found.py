"""PostgreSQL as it is found: whatever a role, a database or a server has set, what is published is stored in order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from gatecast.controlplane.migrations import MIGRATIONS as CONTROL_PLANE
from gatecast.errors import DatabaseUnsuitable, SettingInvalid, StorageUnavailable
from gatecast.storage.connect import open_storage
from gatecast.storage.migrations import SchemaNeed
from gatecast.storage.postgres import PostgresStorage, dialing
from gatecast.storage.postgres import database as postgres_database
from gatecast.storage.postgres.roles import role_script
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, ids_of, make_event, publish
from gatecast.testing.postgres_server import PostgresServer

_numbers = itertools.count(1)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _name_of(url: str) -> str:
    return urlsplit(url).path[1:]


async def _alter(url: str, *settings: str) -> None:
    async with _connected(url) as connection:
        for setting in settings:
            await connection.execute(f'ALTER DATABASE "{_name_of(url)}" SET {setting}')


# --- just-in-time compilation -----------------------------------------------------------------------------------------


async def test_no_function_is_compiled_just_in_time(postgres_url: str) -> None:
    """On servers with LLVM one call of `append_events` would take 28 ms in place of 0.1."""
    async with _connected(postgres_url) as connection:
        compiled = await connection.fetch(
            "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'gatecast'::regnamespace "
            "AND NOT coalesce(proconfig, '{}') @> '{jit=off}'"
        )
    assert [str(row[0]) for row in compiled] == []


@pytest.mark.parametrize("pooler", ["auto", "on", "off"])
async def test_no_statement_is_compiled_just_in_time(postgres_url: str, pooler: str) -> None:
    await _alter(postgres_url, "jit = on", "jit_above_cost = 0")
    async with PostgresStorage.open(postgres_url, pooler=pooler) as storage:
        [row] = await storage.database.fetch("SELECT current_setting('jit') AS jit")
        assert row["jit"] == "off"
        async with storage.database.transaction() as transaction:
            row = await transaction.fetch_one("SELECT current_setting('jit') AS jit")  # type: ignore[assignment]
            assert row["jit"] == "off"


# --- isolation --------------------------------------------------------------------------------------------------------

_LEVELS = ["serializable", "repeatable read", "read committed"]


@pytest.mark.parametrize("pooler", ["on", "off"])
@pytest.mark.parametrize("level", _LEVELS)
async def test_the_default_isolation_level_does_not_matter(postgres_url: str, level: str, pooler: str) -> None:
    """Each look behind a lock must see what the one before has committed: many at once, on one log and on two."""
    await _alter(postgres_url, f"default_transaction_isolation = '{level}'")
    async with PostgresStorage.open(postgres_url, pooler=pooler) as storage:
        [row] = await storage.database.fetch("SELECT current_setting('transaction_isolation') AS level")
        assert row["level"] == "read committed"
        for gateway in (GATEWAY, OTHER_GATEWAY):
            await storage.log.register(gateway)

        async def publish_both() -> None:
            await publish(storage, make_event(GATEWAY), make_event(OTHER_GATEWAY))
            await publish(storage, make_event(GATEWAY))
            async with storage.database.transaction() as transaction:
                await storage.log.publish_in(transaction, [make_event(OTHER_GATEWAY)])

        await asyncio.gather(*(publish_both() for _ in range(15)))
        for gateway in (GATEWAY, OTHER_GATEWAY):
            assert len(await ids_of(storage, gateway)) == 30


@pytest.mark.parametrize("level", _LEVELS)
async def test_pods_that_start_at_once_migrate_whatever_the_default_is(empty_postgres_url: str, level: str) -> None:
    await _alter(empty_postgres_url, f"default_transaction_isolation = '{level}'")

    async def start() -> None:
        async with open_storage(empty_postgres_url, extra_migrations=CONTROL_PLANE) as opened:
            await opened.storage.database.migrate()
            assert await opened.storage.database.schema_need() is SchemaNeed.NOTHING

    await asyncio.gather(*(start() for _ in range(3)))


# --- deadlocks --------------------------------------------------------------------------------------------------------


async def test_a_publish_that_lost_a_deadlock_is_repeated(postgres_url: str) -> None:
    """A caller locks two logs in the wrong order, and PostgreSQL gives the publish up."""
    # PostgreSQL looks once, so long after the publish began to wait; by then the caller must wait, too.
    await _alter(postgres_url, "deadlock_timeout = '2s'")
    async with PostgresStorage.open(postgres_url) as storage, _connected(postgres_url) as caller:
        # The caller's own patience is longer, so the publish is the one that is given up.
        await caller.execute("SET deadlock_timeout = '20s'")
        for gateway in (GATEWAY, OTHER_GATEWAY):
            await storage.log.register(gateway)
        transaction = caller.transaction()
        await transaction.start()
        await storage.log.publish_in(caller, [make_event(OTHER_GATEWAY)])
        publishing = asyncio.create_task(publish(storage, make_event(GATEWAY), make_event(OTHER_GATEWAY)))
        await _waits(postgres_url)
        await storage.log.publish_in(caller, [make_event(GATEWAY)])
        await transaction.commit()
        await publishing
        assert (len(await ids_of(storage, GATEWAY)), len(await ids_of(storage, OTHER_GATEWAY))) == (2, 2)


async def _waits(url: str) -> None:
    """Return when a session waits for a lock in this database."""
    async with _connected(url) as connection:
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock')"
        while not await connection.fetchval(query, _name_of(url)):
            await asyncio.sleep(0.01)


async def test_what_is_given_up_again_and_again_ends_within_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_database, "STATEMENT_TIME_LIMIT", 0.05)
    attempts = 0

    async def give_up() -> None:
        nonlocal attempts
        attempts += 1
        raise StorageUnavailable("40001") from asyncpg.SerializationError("could not serialize access")

    with pytest.raises(StorageUnavailable):
        await postgres_database.repeated(give_up)
    assert attempts > 1


# --- what is checked at the start -------------------------------------------------------------------------------------


async def test_an_older_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "OLDEST_VERSION", 99)
    async with PostgresStorage.open(postgres_url) as storage:
        with pytest.raises(DatabaseUnsuitable, match="upgrade it to PostgreSQL 99 or newer"):
            await storage.database.schema_need()


async def test_an_encoding_that_lacks_characters_is_refused(postgres: PostgresServer) -> None:
    name = f"latin_{next(_numbers)}"
    async with _connected(postgres.url()) as connection:
        await connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        async with PostgresStorage.open(postgres.url(name)) as storage:
            with pytest.raises(DatabaseUnsuitable, match=r"encoding is LATIN1.*create a database with ENCODING 'UTF8'"):
                await storage.database.schema_need()
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("path", ["nowhere", "''", "hidden"])
async def test_a_search_path_that_does_not_lead_to_the_tables_is_refused(empty_postgres_url: str, path: str) -> None:
    """In place of a second set of tables, or of `relation does not exist` at the first request."""
    async with open_storage(empty_postgres_url, extra_migrations=CONTROL_PLANE) as opened:
        await opened.storage.database.migrate()
    async with _connected(empty_postgres_url) as connection:
        await connection.execute("CREATE SCHEMA hidden")
    await _alter(empty_postgres_url, f"search_path = {path}")
    async with open_storage(empty_postgres_url, extra_migrations=CONTROL_PLANE) as opened:
        for refused in (opened.storage.database.schema_need, opened.storage.database.migrate):
            with pytest.raises(DatabaseUnsuitable, match=r"search_path.*ALTER ROLE .* SET search_path = public"):
                await refused()


async def test_an_empty_database_with_a_useless_search_path_is_refused(empty_postgres_url: str) -> None:
    await _alter(empty_postgres_url, "search_path = nowhere")
    async with open_storage(empty_postgres_url, extra_migrations=CONTROL_PLANE) as opened:
        with pytest.raises(DatabaseUnsuitable, match="search_path"):
            await opened.storage.database.migrate()


async def test_parameters_that_the_driver_does_not_know_are_refused(postgres_url: str) -> None:
    async with PostgresStorage.open(f"{postgres_url}&sslmode=perhaps") as storage:
        with pytest.raises(SettingInvalid, match="GATECAST_DATABASE"):
            await storage.database.ping()


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(postgres: PostgresServer) -> Iterator[Callable[[str], str]]:
    """A database in which the shipped script has made its roles; gives its URL as one of them."""
    name = f"limited_{next(_numbers)}"
    asyncio.run(_make_limited(postgres, name))
    yield lambda role: _as_role(postgres.url(name), role)
    asyncio.run(_drop_limited(postgres, name))


async def _make_limited(postgres: PostgresServer, name: str) -> None:
    await postgres.create_database(name)
    async with _connected(postgres.url(name)) as connection:
        # As on servers from 15 on: nobody but the owner makes anything in `public`.
        await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        await connection.execute(role_script())
        for role in ("gatecast_owner", "gatecast_pod"):
            await connection.execute(f"ALTER ROLE {role} PASSWORD 'a-password'")
        await connection.execute("CREATE ROLE application LOGIN PASSWORD 'a-password' IN ROLE gatecast_publisher")
        await connection.execute(f"ALTER ROLE application IN DATABASE {name} SET search_path = public")


async def _drop_limited(postgres: PostgresServer, name: str) -> None:
    async with _connected(postgres.url()) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        for role in ("application", "gatecast_publisher", "gatecast_pod", "gatecast_owner"):
            await connection.execute(f"DROP ROLE IF EXISTS {role}")


def _as_role(url: str, role: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{role}:a-password@{rest.partition('@')[2]}"


async def test_the_shipped_roles_have_the_rights_they_need_and_no_more(
    postgres: PostgresServer, limited: Callable[[str], str]
) -> None:
    """The owner migrates, pods serve, an application publishes; none can do what it does not need."""
    async with open_storage(limited("gatecast_pod"), extra_migrations=CONTROL_PLANE) as opened:
        with pytest.raises(DatabaseUnsuitable, match=r"permission denied.*as the owner of the schema"):
            await opened.storage.database.migrate()
    async with open_storage(limited("gatecast_owner"), extra_migrations=CONTROL_PLANE) as opened:
        await opened.storage.database.migrate()
    async with _connected(postgres.url(_name_of(limited("gatecast_pod")))) as connection:
        # Once more, now that there are tables.
        await connection.execute(role_script())
    async with open_storage(limited("gatecast_pod"), extra_migrations=CONTROL_PLANE) as opened:
        storage = opened.storage
        assert await storage.database.schema_need() is SchemaNeed.NOTHING
        assert await storage.database.migrate() == []
        await storage.log.register(GATEWAY)
        await publish(storage, make_event())
        async with _connected(limited("application")) as application:
            await application.execute("SELECT gatecast.publish('gateway-1', 'api.deployed', 'CREATE', 'Api', 'api-1')")
            assert await application.fetchval("SELECT gatecast.register_gateway('gateway-2')")
            for forbidden in ("DELETE FROM gatecast.events", "DROP TABLE gatecast.epoch", "TABLE gatecast.cursors"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await application.execute(forbidden)
        assert len(await ids_of(storage)) == 2
    async with _connected(limited("gatecast_pod")) as pod:
        for forbidden in (
            "DROP TABLE gatecast.events",
            "TRUNCATE gatecast.events",
            "CREATE TABLE gatecast.more (a int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pod.execute(forbidden)


async def test_a_pod_with_the_least_rights_does_all_its_work(limited: Callable[[str], str]) -> None:
    """Every part of the storage once, with nothing but what the script grants."""
    async with open_storage(limited("gatecast_owner"), extra_migrations=CONTROL_PLANE) as opened:
        await opened.storage.database.migrate()
    async with open_storage(limited("gatecast_pod"), extra_migrations=CONTROL_PLANE) as opened:
        lacking = await opened.storage.database.fetch(
            "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'gatecast'::regnamespace "
            "AND NOT has_function_privilege(oid, 'EXECUTE')"
        )
        assert lacking == []


async def test_a_right_that_is_missing_is_told_at_the_start(limited: Callable[[str], str]) -> None:
    async with open_storage(limited("gatecast_owner"), extra_migrations=CONTROL_PLANE) as opened:
        await opened.storage.database.migrate()
        async with opened.storage.database.transaction() as transaction:
            await transaction.execute("REVOKE INSERT ON gatecast.outcomes FROM gatecast_pod")
    async with open_storage(limited("gatecast_pod"), extra_migrations=CONTROL_PLANE) as opened:
        with pytest.raises(DatabaseUnsuitable, match=r"lacks INSERT on gatecast\.outcomes.*gatecast roles"):
            await opened.storage.database.schema_need()
    async with _connected(limited("gatecast_owner")) as owner:
        await owner.execute("REVOKE USAGE ON SCHEMA gatecast FROM gatecast_pod")
    async with open_storage(limited("gatecast_pod"), extra_migrations=CONTROL_PLANE) as opened:
        with pytest.raises(DatabaseUnsuitable, match="lacks USAGE on schema gatecast"):
            await opened.storage.database.schema_need()


# --- two-phase commit -------------------------------------------------------------------------------------------------


async def test_a_callers_transaction_can_be_prepared(two_phase: PostgresServer) -> None:
    """PREPARE TRANSACTION refuses whatever has notified, so the caller leaves the hint out; polling finds the event."""
    await two_phase.create_database("prepared")
    url = two_phase.url("prepared")
    async with PostgresStorage.open(url) as storage, _connected(url) as caller:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        for publish_here in (_publish_in_sql, _publish_in_library(storage)):
            await caller.execute("BEGIN; SET LOCAL gatecast.hints = off")
            await publish_here(caller)
            await caller.execute("PREPARE TRANSACTION 'one'")
            before = await storage.log.changed_since(0)
            await caller.execute("COMMIT PREPARED 'one'")
            after = await storage.log.changed_since(before.marker)
            assert after.heads[GATEWAY] == before.heads[GATEWAY] + 1
        assert len(await ids_of(storage)) == 2


async def _publish_in_sql(caller: asyncpg.Connection[Any]) -> None:
    await caller.execute("SELECT gatecast.publish('gateway-1', 'api.deployed', 'CREATE', 'Api', 'api-1')")


def _publish_in_library(storage: PostgresStorage) -> Callable[[asyncpg.Connection[Any]], Awaitable[Any]]:
    return lambda caller: storage.log.publish_in(caller, [make_event()])


@pytest.fixture
def two_phase() -> Iterator[PostgresServer]:
    """A server that lets transactions be prepared, which is off by default."""
    with PostgresServer(fsync="off", max_prepared_transactions="5") as server:
        yield server
