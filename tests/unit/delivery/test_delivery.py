"""Subscriptions that open, end and overtake each other while the pod starts, stops or fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from gatecast.delivery.delivery import Delivery, DeliveryOptions
from gatecast.delivery.presence import FIRST_LEASE_TIME_LIMIT
from gatecast.errors import HubClosed, InvariantBroken, StorageUnavailable, SubscriptionClosed, UnknownGateway
from gatecast.events import Position
from gatecast.storage.contract import (
    Changes,
    Connection,
    DeliveryFilter,
    PositionState,
    Progress,
    ReadRequest,
    ReadResult,
    TrimPass,
    TrimPolicy,
)
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.wakeup.contract import EVERYTHING, Hint
from gatecast.wakeup.in_process import InProcessWakeup

_EPOCH = UUID(int=1)
_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10**6)


class _Storage:
    """The three contracts over nothing but connections; each call takes the time that it is told to take."""

    def __init__(self) -> None:
        self.log = self.presence = self.outcomes = self.parking = self
        #: The connections that are recorded.
        self.connections: set[str] = set()
        self.leased = False
        #: How long calls take, by name; in seconds.
        self.takes: dict[str, float] = {}
        #: What calls raise when they are over, by name.
        self.fails: dict[str, BaseException] = {}

    async def _call(self, name: str, work: Callable[[], None] = lambda: None) -> None:
        await asyncio.sleep(self.takes.get(name, 0.01))
        work()
        await asyncio.sleep(self.takes.get(name, 0.01))
        if name in self.fails:
            raise self.fails[name]

    async def describe_pod(self, _pod_id: str, _version: str) -> None:
        """Nobody asks here."""

    async def renew_lease(self, _pod_id: str, _duration: timedelta) -> UUID:
        self.leased = True
        await self._call("renew_lease")
        return _EPOCH

    async def end_lease(self, _pod_id: str) -> None:
        self.leased = False
        await self._call("end_lease")

    async def pending_disconnects(self, _pod_id: str) -> dict[str, str]:
        await self._call("dismissals")
        return {}

    async def standing(self, _gateway_id: str, _replica: str) -> PositionState:
        await self._call("standing")
        return PositionState(
            epoch=_EPOCH, head=0, low_water_mark=0, confirmed=None, resync_reason=None, registered_in=_EPOCH
        )

    async def connect(self, connection: Connection, *, start: Position, **_options: object) -> None:
        assert start == Position(_EPOCH, 0)
        await self._call("connect", lambda: self.connections.add(connection.connection_id))

    async def withheld(self, _gateway_id: str, _replica: str, **_options: object) -> DeliveryFilter:
        await self._call("withheld")
        return DeliveryFilter()

    async def disconnect(self, progress: list[Progress]) -> None:
        await self._call("disconnect", lambda: self.connections.difference_update(p.connection_id for p in progress))

    async def record_progress(self, _progress: list[Progress]) -> None:
        await self._call("record_progress")

    async def changed_since(self, _marker: int) -> Changes:
        await self._call("changed_since")
        return Changes(epoch=_EPOCH, heads={}, marker=1)

    async def trim(self, _policy: TrimPolicy, trim_pass: TrimPass) -> int:
        await self._call("trim")
        trim_pass.is_done = True
        return 0

    async def read(self, requests: list[ReadRequest]) -> list[ReadResult]:
        await self._call("read")
        return [ReadResult(epoch=_EPOCH, events=[], head=0, low_water_mark=0) for _ in requests]


class _Pod:
    def __init__(self) -> None:
        self.storage = _Storage()
        self.wakeup = InProcessWakeup()
        options = DeliveryOptions(pod_id="pod", poll_interval=1, trim_policy=_POLICY)
        self.delivery = Delivery(cast("Any", self.storage), self.wakeup, options)

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[_Pod]:
        pod = cls()
        async with pod.wakeup, pod.delivery:
            yield pod

    def subscribe(self, name: str = "c", *, newest_only: bool = False) -> asyncio.Task[Any]:
        connection = Connection(
            connection_id=name,
            gateway_id="gw",
            replica="",
            pod_id="pod",
            protocol="library",
            remote="test",
            token_id=None,
        )
        return asyncio.create_task(self.delivery.subscribe(connection, newest_only=newest_only))

    def assert_nothing_is_left(self) -> None:
        assert list(self.delivery.subscriptions) == []
        assert self.delivery.reader.feeds == 0
        assert self.storage.connections == set()


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_s14_a_hundred_rapid_reconnects_leave_one_feed() -> None:
    """Each new connection comes while the last one is still being closed, or opened."""

    async def run() -> None:
        async with _Pod.running() as pod:
            for number in range(100):
                opening = pod.subscribe(f"c{number}")
                await asyncio.sleep(0.001 * (number % 60))
                if opening.done():
                    opening.result().close()
                else:
                    opening.cancel()
                    await asyncio.wait([opening])
            last = await pod.subscribe("last")
            await asyncio.sleep(5)
            assert pod.delivery.reader.feeds == 1
            assert pod.storage.connections == {"last"}
            last.close()
            await asyncio.sleep(5)
            pod.assert_nothing_is_left()

    _run(run())


@pytest.mark.parametrize("after", [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
def test_s14_a_connect_cancelled_at_any_moment_leaves_nothing(after: float) -> None:
    async def run() -> None:
        async with _Pod.running() as pod:
            await asyncio.sleep(1)
            opening = pod.subscribe()
            await asyncio.sleep(after)
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled():
                opening.result().close()
            await asyncio.sleep(5)
            pod.assert_nothing_is_left()

    _run(run())


@pytest.mark.parametrize("failure", [UnknownGateway("gw"), StorageUnavailable("away")])
@pytest.mark.parametrize("call", ["standing", "connect"])
def test_a_connect_that_fails_leaves_nothing(call: str, failure: Exception) -> None:
    async def run() -> None:
        async with _Pod.running() as pod:
            pod.storage.fails[call] = failure
            opening = pod.subscribe()
            with pytest.raises(type(failure)):
                await opening
            await asyncio.sleep(5)
            pod.assert_nothing_is_left()

    _run(run())


def test_a_connect_that_hangs_delays_no_other_and_no_lease() -> None:
    async def run() -> None:
        async with _Pod.running() as pod:
            await asyncio.sleep(1)
            pod.storage.takes["connect"] = 3_600
            hanging = pod.subscribe("hanging")
            await asyncio.sleep(1)
            pod.storage.takes.clear()
            await pod.subscribe("quick")
            hanging.cancel()
            await asyncio.wait([hanging])

    _run(run())


@pytest.mark.parametrize("call", ["standing", "connect"])
def test_s29_a_connect_that_comes_back_after_draining_is_refused(call: str) -> None:
    """Nobody would close it any more, and it would wait for events for ever."""

    async def run() -> None:
        async with _Pod.running() as pod:
            await asyncio.sleep(1)
            pod.storage.takes[call] = 10
            opening = pod.subscribe()
            await asyncio.sleep(1)
            draining = asyncio.create_task(pod.delivery.drain())
            with pytest.raises(HubClosed):
                await pod.subscribe("later")
            await draining
            with pytest.raises(HubClosed):
                await opening
            await asyncio.sleep(5)
            pod.assert_nothing_is_left()
        assert not pod.storage.leased

    _run(run())


def test_a_connect_whose_subscription_was_closed_meanwhile_leaves_nothing() -> None:
    """Its connection is recorded only after it was removed."""

    async def run() -> None:
        async with _Pod.running() as pod:
            await asyncio.sleep(1)
            pod.storage.takes["connect"] = 10
            opening = pod.subscribe()
            await asyncio.sleep(1)
            for subscription in pod.delivery.subscriptions:
                subscription.close()
            with pytest.raises(SubscriptionClosed):
                await opening
            await asyncio.sleep(5)
            pod.assert_nothing_is_left()

    _run(run())


def test_whoever_still_waits_when_delivery_stops_is_told() -> None:
    """Also where the owner had no time to drain."""

    async def run() -> None:
        async with _Pod.running() as pod:
            subscription = await pod.subscribe()
            waiting = asyncio.create_task(subscription.take(1))
            await asyncio.sleep(1)
        with pytest.raises(SubscriptionClosed, match="restarting"):
            await waiting

    _run(run())


def test_whoever_waits_for_the_first_lease_is_told_when_delivery_stops() -> None:
    async def run() -> None:
        pod = _Pod()
        pod.storage.fails["renew_lease"] = StorageUnavailable("away")
        async with pod.wakeup, pod.delivery:
            opening = pod.subscribe()
            await asyncio.sleep(FIRST_LEASE_TIME_LIMIT / 2)
            assert not opening.done()
            pod.storage.fails.clear()
        with pytest.raises(HubClosed):
            await opening

    _run(run())


@pytest.mark.parametrize("name", ["publisher", "reader", "progress", "outcomes", "presence", "retention", "delivery"])
def test_a_background_task_that_is_cancelled_by_mistake_ends_the_pod_as_well(name: str) -> None:
    """A cancellation may come out of anything that a loop awaits."""

    async def run() -> None:
        async with _Pod.running() as pod:
            subscription = await pod.subscribe()
            [task] = [task for task in asyncio.all_tasks() if task.get_name() == name]
            task.cancel()
            await pod.delivery.failed.wait()
            assert str(pod.delivery.failure) == f"{name} was cancelled"
            with pytest.raises(SubscriptionClosed, match="internal-error"):
                await subscription.take(1)

    _run(run())


def test_a_background_task_that_dies_takes_the_others_along_and_is_told() -> None:
    """A pod without a reader must not look alive."""

    async def run() -> None:
        async with _Pod.running() as pod:
            subscription = await pod.subscribe()
            pod.storage.fails["changed_since"] = InvariantBroken("for a test")
            await pod.delivery.failed.wait()
            assert isinstance(pod.delivery.failure, InvariantBroken)
            with pytest.raises(SubscriptionClosed, match="internal-error"):
                await subscription.take(1)
            with pytest.raises(HubClosed):
                await pod.subscribe("later")
            with pytest.raises(HubClosed):
                await pod.delivery.publish([])

    _run(run())


def test_stopping_does_not_swallow_a_cancellation() -> None:
    async def run() -> None:
        entered = asyncio.Event()

        async def use() -> None:
            async with _Pod.running():
                entered.set()

        using = asyncio.create_task(use())
        await entered.wait()
        using.cancel()
        await asyncio.wait([using])
        assert using.cancelled()

    _run(run())


def test_s14_a_connection_that_supersedes_others_wakes_their_pods() -> None:
    async def run() -> None:
        async with _Pod.running() as pod:
            heard: list[Hint] = []
            pod.wakeup.listen(heard.append)
            await pod.subscribe()
            await asyncio.sleep(1)
            assert heard == []
            await pod.subscribe("newest", newest_only=True)
            await asyncio.sleep(1)
            assert heard == [EVERYTHING]

    _run(run())
