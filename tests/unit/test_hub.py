"""The hub on real databases: SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from gatecast.errors import (
    HubClosed,
    InvalidValue,
    PositionLost,
    StorageUnavailable,
    SubscriptionClosed,
    UnknownGateway,
)
from gatecast.hub import EventHub, HubSubscription
from gatecast.settings import Settings
from gatecast.storage.contract import TrimPolicy
from gatecast.testing.contracts.backend import GATEWAY, make_event
from gatecast.testing.contracts.held_log import HeldLog
from gatecast.testing.eventually import PATIENCE

_KEEP_TWO = TrimPolicy(keep_confirmed=timedelta(days=1), keep_at_most=timedelta(days=1), max_events=2)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'events.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


@asynccontextmanager
async def _hub(url: str, settings: Settings | None = None) -> AsyncIterator[EventHub]:
    async with EventHub.open(url, settings=settings) as hub:
        await hub.register_gateway(GATEWAY)
        yield hub


async def _offsets(subscription: HubSubscription, count: int) -> list[int]:
    return [(await anext(subscription)).offset for _ in range(count)]


async def test_what_was_taken_and_not_acknowledged_comes_again(url: str) -> None:
    async with _hub(url) as hub:
        await hub.publish([make_event() for _ in range(3)])
        async with hub.subscribe(GATEWAY) as subscription:
            subscription.acknowledge(await anext(subscription))
            assert await _offsets(subscription, 2) == [2, 3]
        async with hub.subscribe(GATEWAY) as subscription:
            assert await _offsets(subscription, 2) == [2, 3]


async def test_s07_s08_moving_between_pods_neither_rewinds_nor_skips(url: str) -> None:
    async with _hub(url) as first, _hub(url) as second:
        for number, hub in enumerate((first, second, first), start=1):
            async with hub.subscribe(GATEWAY) as subscription:
                await second.publish(make_event())
                event = await anext(subscription)
                assert event.offset == number
                subscription.acknowledge(event)


async def test_s13_the_slowest_of_two_unnamed_subscriptions_holds_the_position(url: str) -> None:
    async with _hub(url) as hub:
        await hub.publish([make_event() for _ in range(3)])
        async with hub.subscribe(GATEWAY) as slow, hub.subscribe(GATEWAY) as quick:
            assert await _offsets(quick, 3) == [1, 2, 3]
            quick.acknowledge(replace(quick.position, offset=3))
            assert await _offsets(slow, 1) == [1]
            slow.acknowledge(replace(slow.position, offset=1))
            await hub.delivery.recorder.flush()
            standing = await hub.storage.presence.standing(GATEWAY, "")
            assert standing.confirmed is not None
            assert standing.confirmed.offset == 1


async def test_s14_a_hundred_rapid_subscriptions_leave_nothing(url: str) -> None:
    async with _hub(url) as hub:
        for _ in range(100):
            await (await hub.subscribe(GATEWAY)).close()
        assert (hub.delivery.reader.feeds, len(hub.delivery.subscriptions)) == (0, 0)
        async with hub.subscribe(GATEWAY) as subscription:
            await hub.publish(make_event())
            assert await _offsets(subscription, 1) == [1]


async def test_deleting_a_gateway_ends_its_subscriptions_on_every_pod(url: str) -> None:
    async with _hub(url) as first, _hub(url) as second, second.subscribe(GATEWAY) as subscription:
        assert await first.delete_gateway(GATEWAY)
        with pytest.raises(SubscriptionClosed, match="gateway-deleted"):
            await anext(subscription)
        with pytest.raises(UnknownGateway):
            await first.publish(make_event())


async def test_p6_whoever_lost_its_position_is_told_until_it_has_resynchronized(url: str) -> None:
    """What retention removed is never silently skipped, and acknowledging the rest does not make it good."""
    async with _hub(url) as hub:
        await hub.publish([make_event() for _ in range(5)])
        await hub.storage.log.trim(_KEEP_TWO)
        async with hub.subscribe(GATEWAY) as subscription:
            with pytest.raises(PositionLost) as lost:
                await anext(subscription)
            assert (lost.value.reason, lost.value.resume_from.offset) == ("retention", 3)
            with pytest.raises(PositionLost):
                await anext(subscription)
        async with hub.subscribe(GATEWAY) as subscription:
            with pytest.raises(PositionLost):
                await anext(subscription)
            await subscription.resynchronized()
            assert subscription.resync_reason is None
            events = [await anext(subscription) for _ in range(2)]
            assert [event.offset for event in events] == [4, 5]
            subscription.acknowledge(events[-1])
        assert (await hub.storage.presence.standing(GATEWAY, "")).resync_reason is None
        async with hub.subscribe(GATEWAY) as subscription:
            await hub.publish(make_event())
            assert await _offsets(subscription, 1) == [6]


async def test_p6_whoever_subscribes_behind_what_was_lost_goes_on_there(url: str) -> None:
    """The error says where: for a subscriber that keeps its positions itself."""
    async with _hub(url) as hub:
        await hub.publish([make_event() for _ in range(5)])
        await hub.storage.log.trim(_KEEP_TWO)
        with pytest.raises(PositionLost) as lost:
            await anext(hub.subscribe(GATEWAY))
        async with hub.subscribe(GATEWAY, after=lost.value.resume_from) as subscription:
            assert await _offsets(subscription, 2) == [4, 5]


async def test_one_held_log_does_not_keep_the_others_from_being_closed_in_order(postgres_url: str) -> None:
    """Callers that wait for the log get no answer; positions are stored, and the lease is given back."""
    settings = Settings(drain_time=timedelta(seconds=2))
    async with _hub(postgres_url) as other, AsyncExitStack() as stack:
        await other.register_gateway("held")
        await stack.enter_async_context(HeldLog.hold(postgres_url, "held"))
        hub = await stack.enter_async_context(_hub(postgres_url, replace(settings, pod_id="leaving")))
        subscription = await hub.subscribe(GATEWAY)
        await hub.publish(make_event())
        subscription.acknowledge(await anext(subscription))
        waiting = asyncio.create_task(hub.publish(make_event("held")))
        await asyncio.sleep(0.1)
        incarnation = await other.storage.presence.renew_lease("leaving", timedelta(seconds=60))
        await hub.close()
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)
        status = (await other.storage.presence.status([GATEWAY]))[GATEWAY]
        assert (status.confirmed, status.connections) == (1, [])
        assert await other.storage.presence.renew_lease("leaving", timedelta(seconds=1)) != incarnation
        assert not waiting.done()
    with pytest.raises(HubClosed):
        await waiting


async def test_a_subscription_ends_also_while_its_position_cannot_be_stored(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatecast.hub._FLUSH_TIME_LIMIT", 0.1)
    async with _hub(url) as hub:
        subscription = await hub.subscribe(GATEWAY)
        with monkeypatch.context() as away:
            away.setattr(type(hub.storage.presence), "disconnect", _away)
            async with asyncio.timeout(PATIENCE):
                await subscription.close()
                await hub.unsubscribe_all()
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)


async def _away(*_: object) -> None:
    raise StorageUnavailable("away for a test")


async def test_without_notifications_polling_delivers_between_pods(url: str) -> None:
    polling = Settings(notifications=False, poll_interval=timedelta(milliseconds=100))
    other = replace(polling, pod_id="pod-2")
    async with _hub(url, polling) as first, _hub(url, other) as second, second.subscribe(GATEWAY) as subscription:
        await first.publish(make_event())
        assert await _offsets(subscription, 1) == [1]


async def test_what_was_not_received_cannot_be_acknowledged(url: str) -> None:
    async with _hub(url) as hub, hub.subscribe(GATEWAY) as subscription:
        with pytest.raises(InvalidValue, match="at most 0"):
            subscription.acknowledge(replace(subscription.position, offset=1))


async def test_what_is_of_another_gateway_or_no_position_cannot_be_acknowledged(url: str) -> None:
    async with _hub(url) as hub, hub.subscribe(GATEWAY) as subscription:
        await hub.publish(make_event())
        event = await anext(subscription)
        for wrong in (replace(event, gateway_id="other"), 1, True, None, "1", make_event()):
            with pytest.raises(InvalidValue, match="position must be"):
                subscription.acknowledge(wrong)  # type: ignore[arg-type]
        assert subscription.position.offset == 0


async def test_what_is_no_event_or_no_position_is_refused_by_its_name(url: str) -> None:
    async with _hub(url) as hub:
        for wrong in (None, 1, "x", [None], [make_event(), "x"], {"type": "x"}):
            with pytest.raises(InvalidValue, match="events must be an event"):
                await hub.publish(wrong)  # type: ignore[arg-type]
        for position in (-1, True, "x", [1]):
            with pytest.raises(InvalidValue, match="after must be a position"):
                hub.subscribe(GATEWAY, after=position)  # type: ignore[arg-type]
        assert await hub.events_published(GATEWAY) == 0


async def test_an_event_stands_and_falls_with_the_callers_asyncpg_transaction(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    async with _hub(postgres_url) as hub, hub.subscribe(GATEWAY) as subscription:
        transaction = connection.transaction()
        await transaction.start()
        await hub.publish(make_event(), connection)
        await transaction.rollback()
        kept = make_event()
        async with connection.transaction():
            await hub.publish(kept, connection)
        assert (await anext(subscription)).event_id == kept.event_id
    await connection.close()


async def test_an_event_stands_and_falls_with_the_callers_sqlite_transaction(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _hub(f"sqlite:///{path}") as hub, hub.subscribe(GATEWAY) as subscription:
        kept = make_event()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            await hub.publish(make_event(), connection)
            connection.rollback()
            connection.execute("BEGIN IMMEDIATE")
            await hub.publish(kept, connection)
            connection.commit()
        assert (await anext(subscription)).event_id == kept.event_id


async def test_without_arguments_the_environment_names_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "named.db"
    monkeypatch.setenv("GATECAST_DATABASE", f"sqlite:///{file}")
    async with EventHub.open() as hub:
        assert await hub.register_gateway("gateway-1")
    assert file.exists()


async def test_a_database_that_is_named_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATECAST_DATABASE", f"sqlite:///{tmp_path / 'of-the-environment.db'}")
    async with EventHub.open(f"sqlite:///{tmp_path / 'given.db'}"):
        pass
    assert not (tmp_path / "of-the-environment.db").exists()
