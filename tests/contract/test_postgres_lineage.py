"""Where a history lives: a promoted standby, a restored dump and a copied database are told from the server itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from gatecast.errors import StorageUnavailable
from gatecast.events import Position
from gatecast.storage.contract import Changes, Storage, Verdict
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    make_connection,
    make_events,
    publish,
    read,
)
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.postgres_reads import reads_of

_numbers = itertools.count(1)


@asynccontextmanager
async def _settled(url: str) -> AsyncIterator[tuple[Storage, Changes]]:
    """A database with a gateway, whose place is recorded."""
    async with PostgresStorage.open(url) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        await storage.log.record_history((await storage.log.changed_since(0)).epoch)
        yield storage, await storage.log.changed_since(0)


async def _is_refused(storage: Storage, epoch: UUID) -> bool:
    """Whether no gateway can connect."""
    try:
        await storage.presence.connect(make_connection(), start=Position(epoch, 0))
    except StorageUnavailable:
        return True
    return False


@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
async def test_s20_a_promoted_standby_is_another_place(version: int, synchronous: bool) -> None:  # noqa: FBT001
    """It serves nobody until that is settled; what was recorded decides, and both timelines are told apart at once."""
    with PostgresServer(version=version, fsync="off") as server, server.standby(fsync="off") as standby:
        if synchronous:
            await server.configure(synchronous_standby_names="standby")
        async with _settled(server.url()) as (storage, before):
            assert (before.settled, before.synchronous) == (True, synchronous)
            await publish(storage, *make_events(2))
            await standby.caught_up_with(server)
        async with PostgresStorage.open(standby.url()) as storage:
            waiting = await storage.log.changed_since(0)
            assert (waiting.settled, waiting.heads) == (False, {GATEWAY: 2})
            with pytest.raises(StorageUnavailable):
                await storage.log.record_history(before.epoch)
            server.kill()
            await standby.promote()
            found = await storage.log.changed_since(before.marker)
            assert not found.settled
            assert not found.continues(before)
            assert (await read(storage)).server == found.server
            assert await _is_refused(storage, before.epoch)
            epoch = await storage.log.record_history(before.epoch)
            assert (epoch == before.epoch) is synchronous
            assert await standby.fetch_value("SELECT gatecast.was_standby_v1()")
            await standby.execute("CREATE ROLE ordinary LOGIN", "GRANT USAGE ON SCHEMA gatecast TO ordinary")
            connection = await asyncpg.connect(standby.url(), user="ordinary")
            assert await connection.fetchval("SELECT gatecast.was_standby_v1()")
            await connection.close()
            after = await storage.log.changed_since(0)
            assert (after.settled, after.synchronous, after.epoch) == (True, False, epoch)
            assert not await _is_refused(storage, epoch)


async def test_s20_doubt_outweighs_the_record_and_the_operator_outweighs_doubt() -> None:
    """A pod that saw the standby leave knows better than a record that may not have arrived."""
    with PostgresServer(fsync="off") as server, server.standby(fsync="off") as standby:
        await server.configure(synchronous_standby_names="standby")
        async with _settled(server.url()) as (_, before):
            assert before.synchronous
        with standby.standby(fsync="off") as other:
            server.kill()
            await other.promote()
            async with PostgresStorage.open(other.url()) as storage:
                assert await storage.log.record_history(before.epoch, Verdict.DOUBT) != before.epoch
        await standby.promote()
        async with PostgresStorage.open(standby.url()) as storage:
            assert await storage.log.record_history(before.epoch, Verdict.KEEP) == before.epoch
            assert (await storage.log.changed_since(0)).settled


async def test_s20_p6_a_standby_lacks_what_was_decided_after_it_left_and_its_record_proves_one_promotion() -> None:
    """A pod that looked at the first server knows that the second one was taken back; nobody believes in the third."""
    with PostgresServer(fsync="off") as server, server.standby(fsync="off") as standby:
        await server.configure(synchronous_standby_names="standby")
        async with _settled(server.url()) as (storage, earlier):
            assert earlier.lineage[0] == earlier.epoch
            await standby.caught_up_with(server)
            await asyncio.to_thread(standby.kill)
            await server.configure(synchronous_standby_names="")
            await storage.log.record_history(earlier.epoch)
            last = await storage.log.changed_since(0)
            assert last.lineage[:-1] == earlier.lineage
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(standby.start)
        await standby.promote()
        with standby.standby(fsync="off") as third:
            await third.caught_up_with(standby)
            await third.promote()
            async with PostgresStorage.open(third.url()) as storage:
                assert await storage.log.record_history(earlier.epoch) != earlier.epoch
                assert not (await storage.log.changed_since(0)).lacks_what_followed(last)
        async with PostgresStorage.open(standby.url()) as storage:
            assert await storage.log.record_history(earlier.epoch) == earlier.epoch
            found = await storage.log.changed_since(0)
            assert (found.lacks_what_followed(earlier), found.lacks_what_followed(last)) == (False, True)
            renewed = await storage.log.renew_epoch(earlier.epoch)
            after = await storage.log.changed_since(0)
            assert (after.epoch, after.lineage[-1]) == (renewed, renewed)
            assert not after.lacks_what_followed(last)
            # The history that has ended, on a server that does not know of its end.
            assert found.lacks_what_followed(after)


async def test_a_restart_is_another_server_in_the_same_place() -> None:
    """What was read before is compared, and nobody resynchronizes."""
    with PostgresServer(fsync="off") as server:
        async with _settled(server.url()) as (storage, before):
            await publish(storage, *make_events(2))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        async with PostgresStorage.open(server.url()) as storage:
            found = await storage.log.changed_since(before.marker)
            assert found.server != before.server
            assert (found.settled, found.epoch) == (True, before.epoch)


async def test_s20_a_copied_database_is_another_place(postgres: PostgresServer) -> None:
    """CREATE DATABASE … TEMPLATE copies every row as it is."""
    name = f"copied_{next(_numbers)}"
    await postgres.create_database(name)
    async with _settled(postgres.url(name)) as (_, before):
        pass
    await postgres.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    async with PostgresStorage.open(postgres.url(f"{name}_copy")) as storage:
        assert not (await storage.log.changed_since(0)).settled
        assert await _is_refused(storage, before.epoch)
        assert await storage.log.record_history(before.epoch) != before.epoch
    await postgres.execute(f"DROP DATABASE {name}_copy", f"DROP DATABASE {name}")


def _dump(server: PostgresServer, database: str) -> bytes:
    return server.run("pg_dump", "-d", server.url(database))


def _load(server: PostgresServer, database: str, dump: bytes) -> None:
    server.run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.url(database), text=dump)


@pytest.mark.parametrize("where", ["the same cluster", "another cluster"])
async def test_s20_a_loaded_dump_is_another_place(where: str, postgres: PostgresServer) -> None:
    """Also where commits waited for a standby: that says nothing about what is younger than the dump."""
    with PostgresServer(fsync="off") as server:
        async with _settled(server.url()) as (storage, before):
            await publish(storage, *make_events(2))
            await storage.database.fetch("SELECT 1")
        await server.execute("UPDATE gatecast.epoch SET synchronous = true, written_by = pg_current_xact_id()")
        dump = await asyncio.to_thread(_dump, server, "postgres")
        target, name = (server if where == "the same cluster" else postgres), f"loaded_{next(_numbers)}"
        await target.create_database(name)
        await asyncio.to_thread(_load, target, name, dump)
        async with PostgresStorage.open(target.url(name)) as storage:
            found = await storage.log.changed_since(0)
            assert (found.settled, found.heads) == (False, {GATEWAY: 2})
            assert await storage.log.record_history(before.epoch) != before.epoch
            assert (await storage.log.changed_since(0)).settled


async def test_s20_tables_that_are_loaded_again_in_their_own_database_are_noticed(postgres: PostgresServer) -> None:
    """Same cluster, same database, same timeline: the row was written by another transaction than it says."""
    name = f"reloaded_{next(_numbers)}"
    await postgres.create_database(name)
    async with _settled(postgres.url(name)) as (storage, before):
        dump = await asyncio.to_thread(_dump, postgres, name)
        await postgres_drop_schema(postgres.url(name))
        await asyncio.to_thread(_load, postgres, name, dump)
        found = await storage.log.changed_since(before.marker)
        assert not found.settled
        assert not found.continues(before)
        assert await storage.log.record_history(before.epoch) != before.epoch


async def postgres_drop_schema(url: str) -> None:
    """Remove everything of ours."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA gatecast CASCADE")
    await connection.close()


async def test_after_a_dump_into_a_younger_cluster_an_idle_sweep_reads_nothing(postgres_url: str) -> None:
    """Its logs carry transaction ids that the cluster has not reached yet."""
    async with PostgresStorage.open(postgres_url) as storage:
        async with storage.database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO gatecast.gateway_streams (gateway_id, registered_in, changed_xid)"
                " SELECT 'gw-' || n, e.current, (pg_current_xact_id()::text::bigint + 1000000 + n)::text::xid8"
                " FROM generate_series(1, 5000) n, gatecast.epoch e"
            )
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("ANALYZE gatecast.gateway_streams")
        await connection.close()
        first = await storage.log.changed_since(0)
        assert len(first.heads) == 5_000
        await storage.log.register(OTHER_GATEWAY)
        assert (await storage.log.changed_since(first.marker)).heads == {OTHER_GATEWAY: 0}

    async def idle(storage: Storage) -> None:
        marker = (await storage.log.changed_since(0)).marker
        for _ in range(20):
            marker = (await storage.log.changed_since(marker)).marker

    reads = await reads_of(postgres_url, idle)
    assert sum(table.rows for table in reads.values()) <= 5_100 + 20 * 20, reads


@pytest.mark.parametrize("level", ["off", "local"])
async def test_p1_a_lower_synchronous_commit_is_raised_for_what_is_published(postgres_url: str, level: str) -> None:
    """Set for a role or for a database: a receipt means that the event is on disk."""
    connection = await asyncpg.connect(postgres_url, server_settings={"synchronous_commit": level})
    try:
        async with PostgresStorage.open(postgres_url) as storage:
            await storage.log.register(GATEWAY)
            for events in (make_events(1), make_events(3)):
                async with connection.transaction():
                    await storage.log.publish_in(connection, events)
                    assert await connection.fetchval("SHOW synchronous_commit") == "on"
                assert await connection.fetchval("SHOW synchronous_commit") == level
            async with connection.transaction():
                await connection.fetchval(f"SELECT gatecast.publish('{GATEWAY}', 't', 'CREATE', 'T', 'e')")
                assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()


async def test_a_higher_synchronous_commit_stays(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url, server_settings={"synchronous_commit": "remote_apply"})
    try:
        async with PostgresStorage.open(postgres_url) as storage, connection.transaction():
            await storage.log.register(GATEWAY)
            await storage.log.publish_in(connection, make_events(2))
            assert await connection.fetchval("SHOW synchronous_commit") == "remote_apply"
    finally:
        await connection.close()


async def test_p1_what_was_accepted_survives_a_crash_although_the_database_says_otherwise() -> None:
    """With a walwriter that is slow, hundreds of asynchronous commits would be lost."""
    with PostgresServer(wal_writer_delay="10s", wal_writer_flush_after="1GB") as server:
        await server.execute("ALTER DATABASE postgres SET synchronous_commit = off")
        async with _settled(server.url()) as (storage, _):
            for events in (make_events(1), make_events(2), make_events(1)):
                await publish(storage, *events)
            await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        async with PostgresStorage.open(server.url()) as storage:
            assert (await read(storage)).head == 4


async def test_an_ordinary_role_may_ask_for_the_lineage(postgres_url: str) -> None:
    """And one that a managed service forbids it is told so plainly: the history then goes on where it was recorded."""
    connection = await asyncpg.connect(postgres_url)
    role = f"ordinary_{next(_numbers)}"
    try:
        await connection.execute(
            f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA gatecast TO {role};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA gatecast TO {role}; SET ROLE {role}"
        )
        cluster = await connection.fetchval("SELECT cluster FROM gatecast.lineage_v1()")
        assert await connection.fetchval("SELECT timeline FROM gatecast.lineage_v1()") == "00000001"
        await connection.execute(
            f"RESET ROLE; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC;"
            f"REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC; SET ROLE {role}"
        )
        [degraded] = await connection.fetch("SELECT * FROM gatecast.lineage_v1()")
        assert tuple(degraded) == (f"?/{cluster.partition('/')[2]}", "?")
        assert await connection.fetchval("SELECT gatecast.was_standby_v1()") is False
    finally:
        await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()
