from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.storage_backend import GATEWAY, make_event, publish
from gatecast.waiting import Backoff
from gatecast.wakeup.contract import EVERYTHING, Hint
from gatecast.wakeup.postgres import PostgresWakeup


@asynccontextmanager
async def _listening(url: str) -> AsyncIterator[asyncio.Queue[Hint]]:
    """What is heard, once it has begun with looking at everything."""
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    wakeup = PostgresWakeup(url, backoff=Backoff(first=0.01, longest=0.01))
    wakeup.listen(heard.put_nowait)
    async with wakeup:
        assert await heard.get() == EVERYTHING
        assert wakeup.connected
        yield heard


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_it_hears_what_another_connection_publishes(postgres_url: str) -> None:
    async with _listening(postgres_url) as heard, PostgresStorage.open(postgres_url) as storage:
        await storage.log.register(GATEWAY)
        await publish(storage, make_event())
        while (hint := await heard.get()) == EVERYTHING:
            pass
        assert hint == Hint.at([GATEWAY])


async def test_s18_a_killed_connection_comes_back_and_looks_at_everything(postgres_url: str) -> None:
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'gatecast-listen'"
    )
    async with _listening(postgres_url) as heard:
        await _execute(postgres_url, kill)
        assert await heard.get() == EVERYTHING
        await _execute(postgres_url, """SELECT pg_notify('gatecast', '["gw"]')""")
        assert await heard.get() == Hint.at(["gw"])


async def test_a_payload_that_is_no_list_of_names_means_everything(postgres_url: str) -> None:
    """It raises nothing, and the next hint is heard as well."""
    async with _listening(postgres_url) as heard:
        for payload in ("", "garbage", '{"a": 1}', "7", "[" * 7_000):
            await _execute(postgres_url, f"SELECT pg_notify('gatecast', '{payload}')")
            assert await heard.get() == EVERYTHING
        await _execute(postgres_url, """SELECT pg_notify('gatecast', '["gw"]')""")
        assert await heard.get() == Hint.at(["gw"])
