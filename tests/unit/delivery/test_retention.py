from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any, cast

from gatecast.delivery.retention import clean_up, run_retention
from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import TrimPolicy
from gatecast.testing.virtual_time import run_in_virtual_time

_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10)


class _Log:
    def __init__(self, *chunks: int) -> None:
        self.chunks = list(chunks)
        self.calls = 0
        self.away = False

    async def trim(self, _policy: TrimPolicy) -> int:
        self.calls += 1
        if self.away:
            raise StorageUnavailable("away")
        return self.chunks.pop(0) if self.chunks else 0


def test_it_goes_on_chunk_by_chunk_until_nothing_may_go() -> None:
    log = _Log(5, 5, 2)
    assert run_in_virtual_time(clean_up(cast("Any", log), _POLICY)) == 12
    assert log.calls == 4


def test_an_outage_does_not_end_it() -> None:
    async def run() -> _Log:
        log = _Log(5)
        log.away = True
        work = run_retention(cast("Any", log), _POLICY, random_source=random.Random(1))  # noqa: S311 - repeats
        runner = asyncio.create_task(work)
        await asyncio.sleep(300)
        log.away = False
        await asyncio.sleep(300)
        runner.cancel()
        await asyncio.wait([runner])
        return log

    assert run_in_virtual_time(run()).chunks == []
