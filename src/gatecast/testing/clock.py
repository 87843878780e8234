"""Clocks: the real one, and one that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The present time, and a way to wait for a later one."""

    def now(self) -> datetime:
        """The time of day, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return when this many seconds have passed on this clock."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return when this many seconds have passed."""
        await asyncio.sleep(seconds)


class HandMovedClock:
    """A clock that stands still until a test calls `advance`.

    A test first waits until the code under test sleeps (`until_asleep`), then moves the clock.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        #: Every pause that was asked for, in seconds, oldest first.
        self.pauses: list[float] = []
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._fell_asleep = asyncio.Event()

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds that the test has let pass."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Return when the test has moved the clock this many seconds on."""
        self.pauses.append(seconds)
        wake = asyncio.get_running_loop().create_future()
        entry = (self._elapsed + seconds, next(self._order), wake)
        heapq.heappush(self._sleepers, entry)
        self._fell_asleep.set()
        try:
            await wake
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    async def until_asleep(self, pauses: int) -> None:
        """Return when this many pauses have been asked for since the beginning."""
        while len(self.pauses) < pauses:
            self._fell_asleep.clear()
            await self._fell_asleep.wait()

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its moment, so that it may sleep again within this time."""
        until = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, wake = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not wake.done():
                wake.set_result(None)
            await _let_others_run()
        self._elapsed = until
        await _let_others_run()


async def _let_others_run() -> None:
    """Give a woken task the few turns of the loop that it needs to go to sleep again."""
    for _ in range(5):
        await asyncio.sleep(0)
