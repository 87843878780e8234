"""An installation in which nothing happens asks little and reads nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gatecast.delivery.presence import LEASE
from gatecast.events import Position
from gatecast.hub import EventHub
from gatecast.settings import Settings
from gatecast.storage.contract import Storage
from gatecast.testing.contracts.backend import ALIVE, make_event, publish
from gatecast.testing.eventually import eventually
from gatecast.testing.processes.postgres_reads import reads_of


async def test_s10_polls_of_idle_pods_read_next_to_nothing(large_url: str) -> None:
    """Three pods that look 40 times each at 20,000 gateways read a handful of rows for each look."""

    async def idle(storage: Storage) -> None:
        marker = (await storage.log.changed_since(2**60)).marker
        for number in range(120):
            pod_id = f"pod-{1 + number % 3}"
            marker = (await storage.log.changed_since(marker)).marker
            await storage.presence.pending_disconnects(pod_id)
            await storage.presence.renew_lease(pod_id, ALIVE)

    reads = await reads_of(large_url, idle)
    assert sum(table.rows for table in reads.values()) <= 120 * 20, reads
    assert reads["events"].rows == 0


_POLL_INTERVAL = 0.02


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'idle.db'}"
    return str(request.getfixturevalue("postgres_url"))


async def test_s10_an_idle_pod_asks_at_the_poll_rate_and_nothing_else(empty_url: str) -> None:
    """Whether logs have grown, whether connections must be closed, and now and then for its lease; 300 gateways or not.

    A slow machine asks less often; none may ask more often.
    """
    settings = Settings(database=empty_url, pod_id="idle", poll_interval=timedelta(seconds=_POLL_INTERVAL))
    async with EventHub.open(settings=settings) as hub:
        epoch = (await hub.storage.log.changed_since(0)).epoch
        reader = hub.delivery.reader
        async with hub.storage.database.transaction() as transaction:
            for number in range(300):
                await hub.register_gateway(f"gateway-{number}", transaction=transaction)
        for number in range(300):
            reader.open(f"gateway-{number}", Position(epoch, 0))
        calls = _Calls(hub.storage)
        # By then the feeds know that nothing waits for them.
        await eventually(lambda: _is_at_rest(hub))
        await calls.until(changed_since=20)
        calls.counts.clear()
        began_at = asyncio.get_running_loop().time()
        await calls.until(changed_since=100, renew_lease=1)
        elapsed = asyncio.get_running_loop().time() - began_at
        counts = dict(calls.counts)
    assert set(counts) == {"changed_since", "pending_disconnects", "renew_lease"}
    polls = elapsed / _POLL_INTERVAL
    assert counts["changed_since"] <= polls + 2
    assert counts["pending_disconnects"] <= polls + 2
    assert counts["renew_lease"] <= elapsed / (LEASE.total_seconds() / 3) + 2


async def _is_at_rest(hub: EventHub) -> bool:
    return not hub.delivery.reader._due


class _Calls:
    """Counts what is asked of a storage from now on."""

    def __init__(self, storage: Storage) -> None:
        self.counts: Counter[str] = Counter()
        self._moved = asyncio.Event()
        for part in (storage.log, storage.presence, storage.outcomes, storage.parking):
            for name, method in inspect.getmembers(part, inspect.iscoroutinefunction):
                if not name.startswith("_"):
                    setattr(part, name, self._counted(name, method))

    async def until(self, **counts: int) -> None:
        """Return when this was asked so often."""
        while any(self.counts[name] < count for name, count in counts.items()):
            self._moved.clear()
            await self._moved.wait()

    def _counted(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: object, **named: object) -> Any:  # noqa: ANN401 - as the method
            self.counts[name] += 1
            self._moved.set()
            return await method(*arguments, **named)

        return counted


async def test_s09_a_pod_without_the_gateway_reads_no_events_for_it(large_url: str) -> None:
    """It learns of every change, by hint and by sweep, and leaves the events alone."""

    async def publish_beside_a_pod(storage: Storage) -> None:
        async with EventHub.open(settings=Settings(database=large_url, pod_id="bystander")) as bystander:
            for number in range(1, 101):
                await publish(storage, make_event(f"gateway-{number}"))
            marker = (await storage.log.changed_since(2**60)).marker
            await eventually(lambda: _has_looked(bystander, marker))

    reads = await reads_of(large_url, publish_beside_a_pod)
    assert reads["events"].scans == 0
    # Some entries of the index are looked at when an id proves to be new.
    assert reads["events"].rows <= 10


async def _has_looked(hub: EventHub, marker: int) -> bool:
    swept = hub.delivery.reader.last_sweep
    return swept is not None and swept.marker >= marker
