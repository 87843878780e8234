from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gatecast.storage.sqlite import SqliteStorage
from gatecast.storage.sqlite.presence import FORGET_AFTER
from gatecast.testing.contracts.backend import (
    GATEWAY,
    POD,
    confirm,
    connect,
    make_connection,
    make_event,
    make_events,
    progress_of,
    publish,
    stored_offset,
)

_LEASE = timedelta(seconds=15)
_TICK = timedelta(microseconds=1)


class ManualClock:
    """Stands still until a test sets it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time now."""
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the storage under test."""
    return ManualClock()


@asynccontextmanager
async def _ready(file: Path, clock: ManualClock) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(file, clock=clock) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        await storage.presence.renew_lease(POD, _LEASE)
        yield storage


async def _live(storage: SqliteStorage) -> list[str]:
    status = (await storage.presence.status([GATEWAY]))[GATEWAY]
    return [connection.connection_id for connection in status.connections]


async def test_a_lease_ends_at_its_moment(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        await connect(storage, make_connection())
        clock.now += _LEASE - _TICK
        assert await _live(storage) == ["connection-1"]
        clock.now += _TICK
        assert await _live(storage) == []


async def test_a_dead_pod_is_remembered_for_some_minutes(file: Path, clock: ManualClock) -> None:
    """A pod whose database was away comes back to its connections; one that died is cleared up in the end."""
    async with _ready(file, clock) as storage:
        await connect(storage, make_connection())
        clock.now += _LEASE + FORGET_AFTER
        await storage.presence.renew_lease("pod-2", _LEASE)
        incarnation = await storage.presence.renew_lease(POD, _LEASE)
        assert await _live(storage) == ["connection-1"]
        clock.now += _LEASE + FORGET_AFTER + _TICK
        await storage.presence.renew_lease("pod-2", _LEASE)
        assert await storage.presence.renew_lease(POD, _LEASE) != incarnation
        assert await _live(storage) == []


async def test_the_lag_is_the_age_of_the_oldest_unconfirmed_event(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        await connect(storage, make_connection())
        await publish(storage, make_event())
        clock.now += timedelta(seconds=20)
        await publish(storage, make_event())
        clock.now += timedelta(seconds=10)
        for confirmed, lag in ((0, 30), (1, 10), (2, 0)):
            await confirm(storage, make_connection(), confirmed)
            assert (await storage.presence.status([GATEWAY]))[GATEWAY].lag_seconds == lag


async def test_a_clock_set_back_makes_no_negative_lag(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        await publish(storage, make_event())
        clock.now -= timedelta(hours=1)
        assert (await storage.presence.status([GATEWAY]))[GATEWAY].lag_seconds == 0


async def test_who_reports_counts_as_alive(file: Path, clock: ManualClock) -> None:
    """Progress that arrives before the lease is renewed is not lost."""
    async with _ready(file, clock) as storage:
        await connect(storage, make_connection())
        clock.now += 2 * _LEASE
        await confirm(storage, make_connection(), 3)
        assert await stored_offset(storage) == 3


async def test_connecting_again_with_the_same_id_replaces_the_connection(file: Path, clock: ManualClock) -> None:
    """A pod that missed the answer asks again."""
    async with _ready(file, clock) as storage:
        await publish(storage, *make_events(2))
        for start in (1, 2):
            await connect(storage, make_connection(), start=start, newest_only=True)
        assert await _live(storage) == ["connection-1"]
        assert await storage.presence.pending_disconnects(POD) == {}
        assert await stored_offset(storage) == 2


async def test_a_connection_of_a_deleted_gateway_moves_nothing_of_its_successor(file: Path, clock: ManualClock) -> None:
    """A gateway that is registered again under its old id has a log of its own."""
    async with _ready(file, clock) as storage:
        old = make_connection("old")
        await publish(storage, *make_events(50))
        await connect(storage, old, start=50)
        await storage.log.forget(GATEWAY)
        await storage.log.register(GATEWAY)
        await connect(storage, make_connection("new"))
        await storage.presence.disconnect([await progress_of(storage, make_connection("new"), sent=2, confirmed=2)])
        await confirm(storage, old, 60)
        assert await stored_offset(storage) == 2
