"""A publish that waited for a held log in vain says so; nothing is stored, and the database is not to blame."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from gatecast import Action, Event, EventHub, Settings
from gatecast.errors import LogHeld
from gatecast.server.error_replies import problem
from gatecast.storage.contract import Busy, ReadRequest
from gatecast.storage.postgres import storage as postgres_storage
from gatecast.storage.sqlite import connection as sqlite_connection


def _event(gateway_id: str = "held") -> Event:
    return Event(gateway_id=gateway_id, type="api.updated", action=Action.UPDATE, entity_type="Api", entity_id="a-1")


async def test_on_postgresql_the_gateway_is_named(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, in a batch, and in a transaction of one's own; another gateway's log is free."""
    monkeypatch.setattr(postgres_storage, "STATEMENT_TIME_LIMIT", 0.5)
    async with EventHub.open(settings=Settings(database=postgres_url, migrate="always")) as hub:
        await hub.register_gateway("held")
        await hub.register_gateway("free")
        holder = await asyncpg.connect(postgres_url)
        try:
            async with holder.transaction():
                await hub.publish(_event(), transaction=holder)
                for events in ([_event()], [_event("free"), _event()]):
                    with pytest.raises(LogHeld, match="the log of gateway held"):
                        await hub.publish(events)
                await hub.publish(_event("free"))
        finally:
            await holder.close()
        [receipt] = await hub.append([_event()])
        assert receipt.position.offset == 2


async def test_a_publish_that_names_its_logs_waits_for_none(postgres_url: str) -> None:
    """For every way to hold the log: to publish to it, or to delete it."""
    async with EventHub.open(settings=Settings(database=postgres_url, migrate="always")) as hub:
        for gateway_id in ("held", "free"):
            await hub.register_gateway(gateway_id)
        requests = [ReadRequest(gateway_id=each, after=0, max_events=1, max_bytes=1) for each in ("held", "free")]
        found = await hub.storage.log.read(requests)
        logs = {each.gateway_id: log.log_id for each, log in zip(requests, found, strict=True) if log is not None}
        holder = await asyncpg.connect(postgres_url)
        try:
            for lock in ("FOR NO KEY UPDATE", "FOR UPDATE"):
                async with holder.transaction():
                    await holder.execute(f"SELECT 1 FROM gatecast.gateway_streams WHERE gateway_id = 'held' {lock}")
                    results = await hub.storage.log.publish([[_event()], [_event("free")]], wait=False, logs=logs)
                    assert results[0] == Busy("held")
                    assert isinstance(results[1], tuple)
        finally:
            await holder.close()


async def test_on_sqlite_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_TIME_LIMIT", 0.2)
    file = tmp_path / "events.db"
    async with EventHub.open(settings=Settings(database=f"sqlite:///{file}")) as hub:
        await hub.register_gateway("held")
        with closing(sqlite3.connect(file, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogHeld, match="every log of this file"):
                await hub.publish(_event())
        await hub.publish(_event())


def test_the_answer_says_what_to_do() -> None:
    status, body = problem(LogHeld("the log of gateway g-1"))
    assert (status, body["type"]) == (503, "urn:gatecast:problem:log-held")
    assert "commit it or roll it back" in body["detail"]
