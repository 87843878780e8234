from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, cast

from gatecast.containment import RetryLoop
from gatecast.delivery.retention import clean_up, run_retention
from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import TrimPass, TrimPolicy
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff

_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10**6, chunk=100)


class _Log:
    """Has so many events to remove."""

    def __init__(self, removable: int) -> None:
        self.removable = removable
        self.away = False
        self.trims: list[float] = []
        #: So many more may be removed after each chunk.
        self.growth = 0

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass) -> int:
        self.trims.append(asyncio.get_running_loop().time())
        if self.away:
            raise StorageUnavailable("away")
        removed = min(policy.chunk, self.removable)
        self.removable -= removed
        trim_pass.is_done = removed < policy.chunk
        self.removable += self.growth
        return removed


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_everything_goes_in_chunks_with_pauses_for_the_publishers() -> None:
    async def run() -> None:
        log = _Log(350)
        assert await clean_up(cast("Any", log), _POLICY) == 350
        assert log.removable == 0
        assert len(log.trims) == 4
        assert len(set(log.trims)) == 4

    _run(run())


def test_it_is_one_pass_although_more_may_be_removed_by_then() -> None:
    """Logs at their cap grow by a little while it removes: that is left to the next time."""

    async def run() -> None:
        log = _Log(350)
        log.growth = 5
        assert await clean_up(cast("Any", log), _POLICY) == 365
        assert len(log.trims) == 4

    _run(run())


def test_it_runs_every_minute_or_so_and_survives_an_outage() -> None:
    async def run() -> None:
        log = _Log(0)
        log.away = True
        loop = RetryLoop("failed", "old events cannot be removed", backoff=Backoff(first=30, longest=100))
        source = random.Random(1)  # noqa: S311 - spreads load
        runner = asyncio.create_task(run_retention(cast("Any", log), _POLICY, random_source=source, loop=loop))
        await asyncio.sleep(3_600)
        assert 45 <= len(log.trims) <= 80
        log.away, log.removable = False, 1_000
        await asyncio.sleep(91)
        assert log.removable == 0
        runner.cancel()
        await asyncio.wait([runner])

    _run(run())
