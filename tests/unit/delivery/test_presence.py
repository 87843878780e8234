from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from gatecast.delivery.presence import FIRST_LEASE_TIME_LIMIT, LEASE, PodPresence
from gatecast.errors import StorageUnavailable
from gatecast.testing.virtual_time import run_in_virtual_time


class _Presence:
    def __init__(self) -> None:
        self.incarnation: UUID | None = None
        self.away = False
        self.loses_answers = False
        self.renewals: list[float] = []
        self.orders: dict[str, str] = {}
        self.ended = False
        self.endings: list[float] = []

    async def describe_pod(self, _pod_id: str, _version: str) -> None:
        """Nobody asks here."""

    async def renew_lease(self, _pod_id: str, _duration: timedelta) -> UUID:
        await asyncio.sleep(0.1)
        if self.away:
            raise StorageUnavailable("away")
        self.incarnation = self.incarnation or uuid4()
        if self.loses_answers:
            raise StorageUnavailable("nobody knows")
        self.ended = False
        self.renewals.append(asyncio.get_running_loop().time())
        return self.incarnation

    async def pending_disconnects(self, _pod_id: str) -> dict[str, str]:
        if self.away:
            raise StorageUnavailable("away")
        orders, self.orders = self.orders, {}
        return orders

    async def end_lease(self, _pod_id: str) -> None:
        self.ended = True
        self.incarnation = None
        self.endings.append(asyncio.get_running_loop().time())


class _Pod:
    def __init__(self, poll_interval: float) -> None:
        self.storage = _Presence()
        self.dismissed: list[tuple[str, str]] = []
        self.presence = PodPresence(
            cast("Any", self.storage),
            "pod",
            poll_interval=poll_interval,
            end_with=lambda connection_id, reason: self.dismissed.append((connection_id, reason)),
            end_all=lambda: self.dismissed.append(("all", "")),
        )

    @classmethod
    @asynccontextmanager
    async def running(cls, poll_interval: float = 0.5) -> AsyncIterator[_Pod]:
        pod = cls(poll_interval)
        runner = asyncio.create_task(pod.presence.run())
        try:
            await pod.presence.ready.wait()
            yield pod
        finally:
            runner.cancel()
            with suppress(asyncio.CancelledError):
                await runner


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_orders_are_obeyed_at_once_when_there_is_a_hint() -> None:
    async def run() -> None:
        async with _Pod.running(poll_interval=100) as pod:
            await asyncio.sleep(0)
            pod.storage.orders = {"c": "token-revoked"}
            pod.presence.look()
            await asyncio.sleep(0.2)
            assert pod.dismissed == [("c", "token-revoked")]

    _run(run())


def test_a_long_poll_interval_does_not_let_the_lease_run_out() -> None:
    async def run() -> None:
        async with _Pod.running(poll_interval=100) as pod:
            await asyncio.sleep(60)
            renewals = pod.storage.renewals
            assert max(b - a for a, b in pairwise(renewals)) < LEASE.total_seconds() / 2

    _run(run())


def test_s26_orders_are_obeyed_within_a_second_without_hints_however_rarely_the_log_is_polled() -> None:
    async def run() -> None:
        async with _Pod.running(poll_interval=100) as pod:
            for _ in range(20):
                pod.dismissed.clear()
                pod.storage.orders = {"c": "token-revoked"}
                await asyncio.sleep(0.8)
                assert pod.dismissed == [("c", "token-revoked")]

    _run(run())


@pytest.mark.parametrize("answer_lost", [False, True])
def test_a_pod_that_others_forgot_closes_all_its_connections_once(*, answer_lost: bool) -> None:
    """Also when the answer to the renewal that made it known again is lost."""

    async def run() -> None:
        async with _Pod.running() as pod:
            pod.storage.away = True
            await asyncio.sleep(60)
            assert pod.dismissed == []
            pod.storage.incarnation = None
            pod.storage.loses_answers = answer_lost
            pod.storage.away = False
            await asyncio.sleep(5)
            pod.storage.loses_answers = False
            await asyncio.sleep(30)
            assert pod.dismissed == [("all", "")]

    _run(run())


def test_a_lease_that_was_given_back_is_not_renewed_again() -> None:
    """Not by a renewal that is under way, and not by a later one."""

    async def run() -> None:
        async with _Pod.running() as pod:
            await asyncio.sleep(2.05)
            await pod.presence.end()
            await asyncio.sleep(30)
            assert pod.storage.ended

    _run(run())


def test_a_long_poll_interval_does_not_prolong_an_outage() -> None:
    """Once the database is back, the lease is renewed before it can have run out again."""

    async def run() -> None:
        async with _Pod.running(poll_interval=100) as pod:
            pod.storage.away = True
            await asyncio.sleep(120)
            pod.storage.away = False
            await asyncio.sleep(LEASE.total_seconds() / 2)
            assert asyncio.get_running_loop().time() - pod.storage.renewals[-1] < LEASE.total_seconds() / 2

    _run(run())


def test_s24_what_a_killed_pod_of_the_same_name_left_is_removed_once() -> None:
    """Its connections would otherwise live again with the new pod's lease, and hold positions back for ever."""

    async def run() -> None:
        async with _Pod.running() as pod:
            assert pod.storage.endings == [0]
            await asyncio.sleep(60)
            assert pod.storage.endings == [0]
            assert pod.dismissed == []

    _run(run())


def test_who_waits_for_the_first_lease_is_answered_when_there_is_none() -> None:
    """With what keeps it away; once there is one, nobody waits."""

    async def run() -> None:
        pod = _Pod(poll_interval=0.5)
        pod.storage.away = True
        runner = asyncio.create_task(pod.presence.run())
        with pytest.raises(StorageUnavailable, match="away"):
            await pod.presence.until_known()
        assert asyncio.get_running_loop().time() == FIRST_LEASE_TIME_LIMIT
        pod.storage.away = False
        await pod.presence.until_known()
        runner.cancel()
        await asyncio.wait([runner])

    _run(run())


def test_a_lease_that_cannot_be_renewed_is_a_problem_until_it_can() -> None:
    async def run() -> None:
        async with _Pod.running() as pod:
            problems = []
            for away in (False, True, False):
                pod.storage.away = away
                await asyncio.sleep(10)
                problems.append(pod.presence.problem)
            assert problems == [None, str(StorageUnavailable("away")), None]

    _run(run())
