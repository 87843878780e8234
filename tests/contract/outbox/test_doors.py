"""Everything that can carry a publish into a database can carry one into an outbox."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from gatecast import Event, EventHub, Position, publish_sync
from gatecast.errors import PositionPending
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event
from gatecast.testing.eventually import PATIENCE


@contextmanager
def _sqlalchemy(url: str) -> Iterator[object]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    if url.startswith("sqlite"):
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with Session(engine) as session, session.begin():
        yield session
    engine.dispose()


@contextmanager
def _psycopg(url: str) -> Iterator[object]:
    with psycopg.connect(url) as connection:
        yield connection


@contextmanager
def _sqlite3(url: str) -> Iterator[object]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncIterator[object]:
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        yield connection
    await connection.close()


@asynccontextmanager
async def _async_psycopg(url: str) -> AsyncIterator[object]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def _async_session(url: str) -> AsyncIterator[object]:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with AsyncSession(engine) as session, session.begin():
        yield session
    await engine.dispose()


_SYNCHRONOUS: dict[str, list[Callable[[str], Any]]] = {
    "sqlite": [_sqlite3, _sqlalchemy],
    "postgresql": [_psycopg, _sqlalchemy],
}
_ASYNCHRONOUS: dict[str, list[Callable[[str], Any]]] = {
    "sqlite": [],
    "postgresql": [_asyncpg, _async_psycopg, _async_session],
}


def _publish_sync(opening: Callable[[str], Any], url: str, event: Event) -> Position:
    with opening(url) as connection:
        return publish_sync(event, connection)


async def test_an_event_gets_into_the_log_through_every_door(outbox_url: str, tmp_path: Path) -> None:
    """Also without a hub; nobody takes the place in the outbox for a position in the log."""
    kind = outbox_url.partition(":")[0]
    async with asyncio.timeout(PATIENCE), EventHub.open(f"sqlite:///{tmp_path}/log.db", outbox=outbox_url) as hub:
        await hub.register_gateway(GATEWAY)
        events: list[Event] = []
        positions: list[Position] = []
        for opening in _SYNCHRONOUS[kind]:
            events.append(make_event())
            positions.append(await asyncio.to_thread(_publish_sync, opening, outbox_url, events[-1]))
        for opening in _ASYNCHRONOUS[kind]:
            events.append(make_event())
            async with opening(outbox_url) as transaction:
                positions.append(await hub.publish(events[-1], transaction))
        for position in positions:
            with pytest.raises(PositionPending):
                _ = position.offset
        found = [await hub.outbox.wait_until_forwarded(position) for position in positions]
        assert [position.offset for position in found] == list(range(1, len(events) + 1))
        assert await ids_of(hub.engine) == [event.event_id for event in events]


@pytest.mark.slow
async def test_an_event_that_is_published_in_sql_gets_into_the_log(empty_postgres_url: str, tmp_path: Path) -> None:
    """A service in any language takes part."""
    log = f"sqlite:///{tmp_path}/log.db"
    async with asyncio.timeout(PATIENCE), EventHub.open(log, outbox=empty_postgres_url) as hub:
        event_id = uuid4()
        async with _asyncpg(empty_postgres_url) as connection:
            assert isinstance(connection, asyncpg.Connection)
            await connection.execute("SELECT gatecast.register_gateway($1)", GATEWAY)
            await connection.execute(
                "SELECT gatecast.publish($1, 'route.changed', 'UPDATE', 'Route', 'orders', '{}'::json, $2)",
                GATEWAY,
                event_id,
            )
        await hub.outbox.wait_until_empty()
        assert await ids_of(hub.engine) == [event_id]
