"""Events wait while their gateway synchronizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

import pytest

from gatecast import EventHub, Settings
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.gateway_sync.synchronizations import (
    FIRST_CALL_WITHIN,
    Call,
    Synchronization,
    Synchronizations,
)
from gatecast.server.gateway_api.holding import Hold, Holding
from gatecast.testing.eventually import PATIENCE

# --- the rule, from values --------------------------------------------------------------------------------------------


def seen(
    number: int = 1,
    *,
    called: float = 0.0,
    finished: float | None = None,
    listed: bool = False,
    began: float | None = None,
) -> Synchronization:
    """What is known of a gateway's calls."""
    return Synchronization(
        number=number,
        began_at=datetime.now(UTC),
        began=called if began is None else began,
        called=called,
        finished=finished,
        listed=listed,
        secrets_read=False,
        began_anew=False,
    )


def test_a_client_that_never_calls_is_not_held() -> None:
    hold = Hold(None, 100.0)
    assert not hold.holds(100.0)
    assert not hold.synchronizes
    assert hold.ends_at == 100.0 + FIRST_CALL_WITHIN.total_seconds()


def test_calls_of_an_earlier_connection_say_nothing_of_this_one() -> None:
    hold = Hold(seen(7), 100.0)
    hold.note(seen(7, called=1.0), 100.1)
    assert (hold.synchronizes, hold.holds(100.7)) == (False, False)
    hold.note(seen(8), 100.2)
    assert (hold.synchronizes, hold.holds(100.7)) == (True, True)


def test_a_gateway_that_has_called_before_is_held_until_it_calls_again_or_does_not() -> None:
    hold = Hold(seen(7), 100.0)
    assert hold.holds(100.0)
    assert not hold.holds(100.0 + FIRST_CALL_WITHIN.total_seconds())


def test_it_ends_a_moment_after_the_last_list() -> None:
    hold = Hold(None, 100.0)
    hold.begin(100.0)
    hold.note(seen(called=0.0, finished=0.0), 101.0)
    assert hold.holds(101.1)
    assert not hold.holds(101.3)


def test_it_ends_ten_seconds_after_the_latest_call() -> None:
    hold = Hold(None, 100.0)
    hold.note(seen(), 100.0)
    hold.note(seen(called=1.0, began=8.0), 108.0)
    assert hold.holds(116.9)
    assert not hold.holds(117.0)


def test_it_never_lasts_longer_than_a_minute() -> None:
    hold = Hold(None, 100.0)
    for second in range(100, 160):
        hold.note(seen(began=second - 100.0), float(second))
        assert hold.holds(float(second))
    hold.note(seen(began=60.0), 160.0)
    assert not hold.holds(160.0)


def test_a_gateway_that_begins_again_is_held_again() -> None:
    """Two replicas that connect at once: what the first one has finished says nothing of the second."""
    hold = Hold(None, 100.0)
    hold.note(seen(1, finished=0.0), 100.0)
    hold.note(seen(2), 100.1)
    assert hold.holds(100.5)


def test_calls_of_others_with_the_same_token_hold_nothing() -> None:
    """A health check that reads the secrets every second, beside the gateway: its own last list ends the waiting."""
    hold = Hold(None, 100.0)
    hold.begin(100.0)
    hold.note(seen(1, called=0.5, finished=0.5, began=2.0), 102.0)
    for second in range(102, 160):
        hold.begin(float(second))
        hold.note(seen(second), float(second))
        assert not hold.holds(second + 0.1)


def test_calls_of_others_do_not_keep_a_gateway_waiting_that_has_given_up() -> None:
    hold = Hold(None, 100.0)
    hold.begin(100.0)
    for second in range(102, 160):
        hold.begin(float(second))
        hold.note(seen(second), float(second))
    assert hold.ends_at == 110.0


# --- the pods ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(database_url: str) -> str:
    """The pods' database."""
    return database_url


def _open(url: str, pod: str) -> AbstractAsyncContextManager[EventHub]:
    settings = Settings(database=url, migrate="always", pod_id=pod)
    return EventHub.open(settings=settings, migrations=("gatecast.controlplane.migrations",))


@asynccontextmanager
async def _two_pods(url: str) -> AsyncIterator[tuple[Holding, Holding, str]]:
    """The holding of each pod, and a gateway."""
    async with _open(url, "pod-1") as first, _open(url, "pod-2") as second:
        gateway = (await Gateways(first).create("default", GatewayFields(name="edge"))).gateway
        holdings = [Holding(Synchronizations(hub.storage.database), hub.delivery) for hub in (first, second)]
        yield holdings[0], holdings[1], gateway.id


async def _becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def test_calls_hold_the_connection_of_their_gateway_on_whichever_pod_they_arrive(url: str) -> None:
    async with _two_pods(url) as (here, there, gateway), here.watch(gateway) as watch, here.watch("another") as other:
        running = asyncio.create_task(watch.run())
        await there.called(gateway, Call.FIRST)
        await _becomes(lambda: watch.holds)
        await there.called(gateway, Call.OTHER)
        await here.called(gateway, Call.LIST)
        assert (watch.holds, other.holds) == (True, False)
        await there.called(gateway, Call.LAST)
        await running
        assert (watch.holds, watch.synchronizes) == (False, True)


async def test_where_the_call_reaches_the_connections_own_pod_nothing_is_sent_from_that_instant(url: str) -> None:
    async with _two_pods(url) as (here, _, gateway), here.watch(gateway) as watch:
        calling = asyncio.create_task(here.called(gateway, Call.FIRST))
        await asyncio.sleep(0)
        held = watch.holds
        await calling
        assert held


async def test_a_connection_without_calls_is_over_soon(url: str) -> None:
    async with _two_pods(url) as (here, _, gateway), here.watch(gateway) as watch:
        await watch.run()
        assert watch.over.done()
        assert not watch.synchronizes


async def test_what_was_called_before_is_kept(url: str) -> None:
    async with _two_pods(url) as (here, there, gateway):
        await there.called(gateway, Call.FIRST)
        await there.called(gateway, Call.LIST)
        calls = here._calls
        known = await calls.of_gateway(gateway)
        assert known is not None
        assert (known.number, known.listed, known.finished, known.goes_on) == (1, True, None, True)
        await there.called(gateway, Call.LAST)
        known = await calls.of_gateway(gateway)
        assert known is not None
        assert known.finished is not None
        assert not known.goes_on
        await there.called(gateway, Call.FIRST)
        known = await calls.of_gateway(gateway)
        assert known is not None
        assert (known.number, known.listed, known.finished) == (2, False, None)
        assert await calls.of_gateway("another") is None
