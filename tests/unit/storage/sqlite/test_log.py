from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gatecast.storage.contract import TrimPolicy
from gatecast.storage.sqlite import SqliteStorage, publishing, retention
from gatecast.testing.contracts.backend import GATEWAY, make_event, make_events, offsets_of, publish, read

_MINUTE = timedelta(minutes=1)
_POLICY = TrimPolicy(keep_confirmed=_MINUTE, keep_at_most=10 * _MINUTE, max_events=100)


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
        yield storage


async def test_ages_are_measured_by_the_databases_clock(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        await publish(storage, *make_events(2))
        clock.now += 6 * _MINUTE
        await publish(storage, *make_events(2))
        clock.now += 4 * _MINUTE
        assert await storage.log.trim(_POLICY) == 0
        clock.now += timedelta(microseconds=1)
        assert await storage.log.trim(_POLICY) == 2
        assert (await read(storage)).low_water_mark == 2


async def test_a_clock_that_steps_back_makes_no_hole(file: Path, clock: ManualClock) -> None:
    """S01: an event recorded "later" than its successors keeps them, until it is old enough itself."""
    async with _ready(file, clock) as storage:
        for step in (0, 5, -5, 0):
            clock.now += step * _MINUTE
            await publish(storage, make_event())
        clock.now += 12 * _MINUTE
        assert await storage.log.trim(_POLICY) == 1
        assert [event.offset for event in (await read(storage)).events] == [2, 3, 4]
        clock.now += 4 * _MINUTE
        assert await storage.log.trim(_POLICY) == 3


async def test_an_id_is_free_again_once_its_event_was_removed(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        event = make_event()
        await publish(storage, event)
        clock.now += 11 * _MINUTE
        await storage.log.trim(_POLICY)
        (receipt,) = await publish(storage, event)
        assert (receipt.created, receipt.position.offset) == (True, 2)


async def test_a_chunk_is_shared_by_several_logs(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        for number in range(5):
            await storage.log.register(f"more-{number}")
            await publish(storage, *make_events(3, f"more-{number}"))
        clock.now += 11 * _MINUTE
        policy = TrimPolicy(keep_confirmed=_MINUTE, keep_at_most=_MINUTE, max_events=100, chunk=7)
        assert [await storage.log.trim(policy) for _ in range(4)] == [7, 7, 1, 0]


async def test_s20_a_marker_from_before_a_restore_names_everything(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        await publish(storage, make_event())
        marker = (await storage.log.changed_since(0)).marker
        changes = await storage.log.changed_since(marker + 1_000)
        assert changes.heads == {GATEWAY: 1}
        assert changes.marker == marker


async def test_s20_a_renewed_epoch_names_everything(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        before = await storage.log.changed_since(0)
        await storage.log.renew_epoch(before.epoch)
        after = await storage.log.changed_since(before.marker)
        assert after.heads == {GATEWAY: 0}
        assert after.epoch != before.epoch


async def test_publishing_known_events_writes_nothing(file: Path, clock: ManualClock) -> None:
    async with _ready(file, clock) as storage:
        events = make_events(3)
        await publish(storage, *events)
        marker = (await storage.log.changed_since(0)).marker
        assert offsets_of(await publish(storage, *events)) == [1, 2, 3]
        assert (await storage.log.changed_since(marker)).heads == {}


async def test_a_batch_runs_as_many_statements_as_one_event(
    file: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further event costs a row in two of them, and nothing else."""
    counts: Counter[str] = Counter()
    for name in ("select", "change_each"):
        run = getattr(publishing, name)

        def counted(*arguments: object, name: str = name, run: Callable[..., object] = run) -> object:
            counts[name] += 1
            return run(*arguments)

        monkeypatch.setattr(publishing, name, counted)
    async with _ready(file, clock) as storage:
        for events in (1, 100):
            counts.clear()
            await storage.log.publish([[event] for event in make_events(events)])
            assert counts == {"select": 3, "change_each": 2}


@pytest.mark.parametrize(
    ("query", "arguments", "expected"),
    [
        (publishing.QUERIES["look_up"], ("[]",), "SEARCH e USING INDEX gatecast_events_event_id"),
        (publishing.QUERIES["look_up"], ("[]",), "SEARCH s USING PRIMARY KEY"),
        (publishing.QUERIES["streams"], ("[]",), "SEARCH gatecast_gateway_streams USING PRIMARY KEY"),
        (
            publishing.QUERIES["changed_since"],
            (1,),
            "SEARCH gatecast_gateway_streams USING INDEX gatecast_gateway_streams_changed",
        ),
        (
            publishing.QUERIES["events_behind"],
            ("g", 1, 1),
            "SEARCH gatecast_events USING INDEX sqlite_autoindex_gatecast_events_1",
        ),
        (
            retention.QUERIES["trimmable"],
            ("", "", 1, 1, "", 0),
            "SEARCH oldest USING INDEX sqlite_autoindex_gatecast_events_1",
        ),
        (retention.QUERIES["cut"], ("g", "", "", 1, 1, 1), "SEARCH e USING INDEX sqlite_autoindex_gatecast_events_1"),
        (
            retention.QUERIES["remove_events"],
            ("g", 1),
            "SEARCH gatecast_events USING INDEX sqlite_autoindex_gatecast_events_1",
        ),
    ],
)
async def test_hot_queries_cost_what_they_touch(
    file: Path, clock: ManualClock, query: str, arguments: tuple[object, ...], expected: str
) -> None:
    """S10, S12: no statement of the event log reads a table to its end."""
    async with _ready(file, clock) as storage:
        plan = [row["detail"] for row in await storage.database.fetch(f"EXPLAIN QUERY PLAN {query}", *arguments)]
    assert any(step.startswith(expected) for step in plan), plan
    assert not any(step.startswith(("SCAN events", "SCAN e ", "SCAN oldest", "USE TEMP B-TREE")) for step in plan), plan
