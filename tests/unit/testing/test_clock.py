"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gatecast.testing.clock import HandMovedClock, SystemClock


async def test_a_sleeper_wakes_when_its_moment_has_come_and_not_before() -> None:
    clock = HandMovedClock()
    sleeper = asyncio.create_task(clock.sleep(10))
    await clock.until_asleep(1)
    await clock.advance(9.9)
    assert not sleeper.done()
    await clock.advance(0.2)
    assert sleeper.done()
    assert clock.pauses == [10]


async def test_a_sleeper_that_sleeps_again_wakes_as_often_as_its_time_fits() -> None:
    clock, ticks = HandMovedClock(), list[float]()

    async def tick() -> None:
        while True:
            await clock.sleep(5)
            ticks.append(clock.monotonic())

    ticker = asyncio.create_task(tick())
    await clock.until_asleep(1)
    await clock.advance(17)
    assert ticks == [5, 10, 15]
    assert clock.monotonic() == 17
    ticker.cancel()
    await asyncio.wait({ticker})


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = HandMovedClock()
    sleeper = asyncio.create_task(clock.sleep(1))
    await clock.until_asleep(1)
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    await clock.advance(2)


def test_its_time_of_day_moves_with_it() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    clock = HandMovedClock(start)
    asyncio.run(clock.advance(90))
    assert clock.now() == start + timedelta(seconds=90)


async def test_the_system_clock_goes_forward_in_utc() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before
    assert clock.now().tzinfo is UTC
