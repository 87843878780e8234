"""What delivery costs the database, counted: no clock takes part."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from gatecast.delivery.delivery import Delivery, DeliveryOptions
from gatecast.events import Action, Event, Position
from gatecast.storage.contract import Changes, Connection, DisconnectReason, ReadRequest, ReadResult, TrimPolicy
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.database import (
    SimulatedDatabase,
    SimulatedEventLog,
    SimulatedPresence,
    SimulatedStorage,
)
from simulation.history import History
from simulation.wakeup import SimulatedWakeup

_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10**6)


class _CountingLog(SimulatedEventLog):
    """Counts calls, and what they return."""

    def __init__(self, storage: SimulatedStorage) -> None:
        super().__init__(storage.link)
        self.counts: Counter[str] = Counter()

    async def changed_since(self, marker: int) -> Changes:
        self.counts["polls"] += 1
        changes = await super().changed_since(marker)
        self.counts["heads"] += len(changes.heads)
        return changes

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        self.counts["reads"] += 1
        results = await super().read(requests)
        self.counts["events"] += sum(len(result.events) for result in results if result)
        return results


class _CountingPresence(SimulatedPresence):
    """Counts what a pod asks for itself."""

    def __init__(self, storage: SimulatedStorage, counts: Counter[str]) -> None:
        super().__init__(storage.link)
        self._counts = counts

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        self._counts["renewals"] += 1
        return await super().renew_lease(pod_id, duration)

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        self._counts["dismissals"] += 1
        return await super().pending_disconnects(pod_id)


class _Pod:
    def __init__(self, gateways: int) -> None:
        random_source = random.Random(1)  # noqa: S311 - repeats, guards nothing
        self.wakeup = SimulatedWakeup(random_source)
        self.history = History()
        self.database = SimulatedDatabase(random_source, self.history, self.wakeup.hear)
        storage = SimulatedStorage(self.database)
        self.log = storage.log = _CountingLog(storage)
        storage.presence = _CountingPresence(storage, self.log.counts)
        self.gateway_ids = [f"gateway-{number}" for number in range(gateways)]
        options = DeliveryOptions(pod_id="pod-1", poll_interval=0.5, trim_policy=_POLICY)
        self.delivery = Delivery(cast("Any", storage), self.wakeup, options)

    async def register(self) -> None:
        for gateway_id in self.gateway_ids:
            await self.log.register(gateway_id)

    def open_feeds(self) -> None:
        """As many connections, without the cost of recording each."""
        for gateway_id in self.gateway_ids:
            self.delivery.reader.open(gateway_id, Position(self.database.rows.epoch, 0))


def _event(gateway_id: str) -> Event:
    return Event(gateway_id=gateway_id, type="changed", action=Action.UPDATE, entity_type="thing", entity_id="1")


def test_s10_ten_thousand_idle_gateways_cost_the_poll_rate_and_no_rows() -> None:
    """Two questions a second for the logs and two for itself, whose answers are empty, a lease, and no read at all."""

    async def run() -> Counter[str]:
        pod = _Pod(10_000)
        await pod.register()
        async with pod.delivery:
            pod.open_feeds()
            await asyncio.sleep(5)
            pod.log.counts.clear()
            await asyncio.sleep(60)
            return pod.log.counts

    counts = run_in_virtual_time(run())
    assert 100 <= counts["polls"] <= 121
    assert 100 <= counts["dismissals"] <= 121
    assert 28 <= counts["renewals"] <= 31
    assert (counts["heads"], counts["reads"], counts["events"]) == (0, 0, 0)


def test_s09_a_pod_reads_nothing_for_a_gateway_that_it_does_not_hold() -> None:
    """Events for others, and for one that has left, cost a look at their heads and no more."""

    async def run() -> Counter[str]:
        pod = _Pod(2)
        await pod.register()
        async with pod.delivery:
            connection = Connection(
                connection_id="connection-1",
                gateway_id="gateway-0",
                replica="",
                pod_id="pod-1",
                protocol="library",
                remote="test",
                token_id=None,
            )
            (await pod.delivery.subscribe(connection)).close()
            await asyncio.sleep(1)
            pod.log.counts.clear()
            for gateway_id in pod.gateway_ids * 10:
                await pod.delivery.publish([_event(gateway_id)])
            await asyncio.sleep(5)
            return pod.log.counts

    counts = run_in_virtual_time(run())
    assert (counts["reads"], counts["events"]) == (0, 0)


def test_s11_a_backlog_drains_in_few_round_trips() -> None:
    """Ten thousand events come in reads of about a hundred and more; none is read twice."""

    async def run() -> tuple[Counter[str], int]:
        pod = _Pod(1)
        await pod.register()
        async with pod.delivery:
            for _ in range(20):
                await pod.delivery.publish([_event("gateway-0") for _ in range(500)])
            connection = Connection(
                connection_id="connection-1",
                gateway_id="gateway-0",
                replica="",
                pod_id="pod-1",
                protocol="library",
                remote="test",
                token_id=None,
            )
            subscription = await pod.delivery.subscribe(connection)
            received = 0
            while received < 10_000:
                for event in await subscription.take(64):
                    received += 1
                    assert event.offset == received
                    pod.history.delivered("gateway-0", pod.database.rows.epoch, event.offset, event.event_id)
                    subscription.acknowledge(event.offset)
            return pod.log.counts, received

    counts, received = run_in_virtual_time(run())
    assert counts["events"] == received == 10_000
    assert counts["reads"] <= 100
