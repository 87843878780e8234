from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from gatecast.delivery.outcomes import MAX_WAITING, OutcomeRecorder
from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Outcome
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff


class _Outcomes:
    def __init__(self) -> None:
        self.recorded: list[object] = []
        self.failures = 2

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        await asyncio.sleep(0.1)
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("away")
        self.recorded += outcomes


def test_an_outage_keeps_the_newest_in_order_and_tells_of_each_once() -> None:
    """More than fit in memory: the oldest go, and nobody is told that they were stored."""

    async def run() -> tuple[list[object], list[int]]:
        outcomes, stored = _Outcomes(), list[int]()
        recorder = OutcomeRecorder(cast("Any", outcomes), backoff=Backoff(first=1, longest=1))
        for number in range(MAX_WAITING + 3):
            recorder.report(cast("Outcome", number), on_stored=partial(stored.append, number))
        runner = asyncio.create_task(recorder.run())
        await asyncio.sleep(60)
        runner.cancel()
        await asyncio.wait([runner])
        return outcomes.recorded, stored

    recorded, stored = run_in_virtual_time(run())
    assert recorded == stored == list(range(3, MAX_WAITING + 3))
