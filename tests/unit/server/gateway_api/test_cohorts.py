"""Which gateways are connected together, and which wait for no other."""

from __future__ import annotations

import asyncio

import pytest

from gatecast.server.gateway_api import cohorts as module
from gatecast.server.gateway_api.cohorts import Cohorts


class _Gateway:
    """One that connects until it is told that it has."""

    def __init__(self, cohorts: Cohorts) -> None:
        self.has_begun = False
        self.connected = asyncio.Event()
        self.task = asyncio.create_task(self._connect(cohorts))

    async def _connect(self, cohorts: Cohorts) -> None:
        async with cohorts.joined():
            self.has_begun = True
            await self.connected.wait()


async def _turns() -> None:
    """Everything that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


async def _begun(gateways: list[_Gateway]) -> list[int]:
    await _turns()
    return [number for number, gateway in enumerate(gateways) if gateway.has_begun]


@pytest.fixture
def never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(module, "_LATE", 3_600)


@pytest.mark.usefixtures("never_late")
async def test_s30_one_alone_begins_at_once_and_those_that_come_meanwhile_begin_together() -> None:
    cohorts = Cohorts()
    gateways = [_Gateway(cohorts) for _ in range(4)]
    assert await _begun(gateways) == [0]
    gateways[0].connected.set()
    assert await _begun(gateways) == [0, 1, 2, 3]
    gateways.append(_Gateway(cohorts))
    for gateway in gateways[1:3]:
        gateway.connected.set()
    assert await _begun(gateways) == [0, 1, 2, 3], "one of its cohort is not connected yet"
    gateways[3].connected.set()
    assert await _begun(gateways) == [0, 1, 2, 3, 4]
    gateways[4].connected.set()
    await asyncio.gather(*(gateway.task for gateway in gateways))
    last = _Gateway(cohorts)
    assert await _begun([last]) == [0]
    last.task.cancel()


async def test_one_that_stands_at_a_lock_keeps_nobody_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LATE", 0)
    cohorts = Cohorts()
    gateways = [_Gateway(cohorts) for _ in range(3)]
    while len(await _begun(gateways)) < 3:
        await asyncio.sleep(0)
    gateways[0].connected.set()
    await gateways[0].task
    for gateway in gateways[1:]:
        gateway.task.cancel()


@pytest.mark.usefixtures("never_late")
async def test_one_that_goes_while_it_waits_or_connects_holds_up_nobody() -> None:
    cohorts = Cohorts()
    gateways = [_Gateway(cohorts) for _ in range(4)]
    await _turns()
    gateways[1].task.cancel()
    # The next cohort begins in the same turn of the loop, before the one that goes has left.
    gateways[0].connected.set()
    assert await _begun(gateways) == [0, 2, 3]
    for gateway in gateways[2:]:
        gateway.task.cancel()
    last = _Gateway(cohorts)
    assert await _begun([last]) == [0]
    last.task.cancel()


@pytest.mark.usefixtures("never_late")
async def test_a_cohort_is_as_large_as_a_statement_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    cohorts = Cohorts()
    gateways = [_Gateway(cohorts) for _ in range(4)]
    await _turns()
    gateways[0].connected.set()
    assert await _begun(gateways) == [0, 1, 2]
    for gateway in gateways[1:]:
        gateway.task.cancel()
