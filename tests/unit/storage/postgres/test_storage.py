"""The pool under servers that hang, only read, or have gone; and what a caller may pass as a transaction."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from gatecast.errors import StorageUnavailable, TransactionUnusable
from gatecast.storage.postgres import PostgresStorage, connection_pool
from gatecast.storage.postgres import storage as postgres_storage
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event, publish
from gatecast.testing.contracts.held_log import HeldLog
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.tcp_proxy import TcpProxy


async def test_a_server_that_only_reads_is_left_for_the_one_that_writes(postgres_url: str) -> None:
    """After a failover the pool may still be connected to the old primary: it dials anew."""
    async with PostgresStorage.open(postgres_url, pool_size=2) as storage:
        await storage.log.register(GATEWAY)
        async with storage.database.connection() as connection:
            await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(StorageUnavailable, match="ReadOnly"):
            await publish(storage, make_event())
        await publish(storage, make_event())


async def test_closing_does_not_wait_for_a_server_that_hangs(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "GOODBYE_TIME_LIMIT", 0.2)
    async with asyncio.timeout(PATIENCE), TcpProxy(postgres.socket) as proxy:
        url = postgres.url(urlsplit(postgres_url).path[1:], address=proxy.address)
        async with PostgresStorage.open(url) as storage:
            await storage.database.ping()
            proxy.deafen()
            hanging = asyncio.create_task(storage.database.ping())
            await asyncio.sleep(0)
        proxy.heal()
        with pytest.raises(StorageUnavailable):
            await hanging


async def test_a_database_that_came_back_is_used_again_at_once(postgres: PostgresServer, postgres_url: str) -> None:
    """Connections that died in the meantime fail once at most, and block nothing."""
    async with TcpProxy(postgres.socket) as proxy:
        url = postgres.url(urlsplit(postgres_url).path[1:], address=proxy.address)
        async with PostgresStorage.open(url) as storage:
            await asyncio.gather(*(storage.database.ping() for _ in range(8)))
            proxy.cut()
            for _ in range(3):
                with pytest.raises(StorageUnavailable):
                    await storage.database.ping()
            proxy.heal()
            await asyncio.gather(*(storage.database.ping() for _ in range(8)))


async def test_a_wire_that_went_silent_costs_one_time_limit_and_not_one_for_each_connection(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first statement that is not answered, nor its cancellation, takes the idle connections with it."""
    monkeypatch.setattr(postgres_storage, "STATEMENT_TIME_LIMIT", 0.3)
    monkeypatch.setattr(connection_pool, "RELEASE_TIME_LIMIT", 0.1)
    async with TcpProxy(postgres.socket) as proxy:
        url = postgres.url(urlsplit(postgres_url).path[1:], address=proxy.address)
        async with PostgresStorage.open(url, pool_size=4) as storage:
            await _open_all(storage, 4)
            proxy.deafen()
            with pytest.raises(StorageUnavailable):
                await storage.database.ping()
            assert storage.database._pool.connections == 0
            proxy.heal()
            await storage.database.ping()


async def test_a_connection_in_use_is_not_dropped_because_another_one_went_silent(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in the middle of something that succeeds, and has a time limit of its own."""
    monkeypatch.setattr(postgres_storage, "STATEMENT_TIME_LIMIT", 0.3)
    monkeypatch.setattr(connection_pool, "RELEASE_TIME_LIMIT", 0.1)
    async with TcpProxy(postgres.socket) as proxy:
        url = postgres.url(urlsplit(postgres_url).path[1:], address=proxy.address)
        async with PostgresStorage.open(url, pool_size=4) as storage:
            await _open_all(storage, 4)
            async with storage.database.connection() as connection:
                proxy.deafen()
                with pytest.raises(StorageUnavailable):
                    await storage.database.ping()
                assert storage.database._pool.connections == 1
                proxy.heal()
                assert await connection.fetchval("SELECT 1") == 1


async def test_a_statement_that_waited_too_long_for_a_lock_costs_no_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers the cancellation, so the wire is whole."""
    monkeypatch.setattr(postgres_storage, "STATEMENT_TIME_LIMIT", 0.3)
    async with PostgresStorage.open(postgres_url, pool_size=4) as storage:
        await storage.log.register(GATEWAY)
        await _open_all(storage, 4)
        async with HeldLog.hold(postgres_url, GATEWAY):
            with pytest.raises(StorageUnavailable):
                await publish(storage, make_event())
        assert storage.database._pool.connections == 4


async def _open_all(storage: PostgresStorage, connections: int) -> None:
    """Have as many connections as the pool takes."""
    async with AsyncExitStack() as stack:
        for _ in range(connections):
            await stack.enter_async_context(storage.database.connection())
    assert storage.database._pool.connections == connections


async def test_a_connection_that_was_given_back_to_its_pool_is_refused(postgres_url: str) -> None:
    async with PostgresStorage.open(postgres_url) as storage, asyncpg.create_pool(postgres_url, min_size=1) as pool:
        await storage.log.register(GATEWAY)
        async with pool.acquire() as connection, connection.transaction():
            await storage.log.publish_in(connection, [make_event()])
        with pytest.raises(TransactionUnusable):
            await storage.log.publish_in(connection, [make_event()])
        assert len(await ids_of(storage)) == 1


async def test_sqlalchemy_without_transactions_is_refused(postgres_url: str) -> None:
    """In AUTOCOMMIT the event would stand before the change that it tells of."""
    engine = create_async_engine(
        postgres_url.replace("postgresql://", "postgresql+asyncpg://"), isolation_level="AUTOCOMMIT"
    )
    async with PostgresStorage.open(postgres_url) as storage:
        await storage.log.register(GATEWAY)
        async with engine.connect() as connection, connection.begin():
            with pytest.raises(TransactionUnusable):
                await storage.log.publish_in(connection, [make_event()])
        assert await ids_of(storage) == []
    await engine.dispose()


@pytest.mark.parametrize("sent", [True, False])
async def test_hints_can_be_left_out(postgres_url: str, *, sent: bool) -> None:
    """With notifications switched off no statement notifies."""
    heard: list[object] = []
    listener = await asyncpg.connect(postgres_url)
    await listener.add_listener("gatecast", lambda *notification: heard.append(notification[-1]))
    async with PostgresStorage.open(postgres_url, send_hints=sent) as storage:
        await storage.log.register(GATEWAY)
        await publish(storage, make_event())
        await publish(storage, make_event(), make_event())
    await listener.execute("SELECT 1")
    await listener.close()
    assert heard == ['["gateway-1"]', '["gateway-1"]'] * sent
