from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from gatecast.delivery.outcomes import MAX_WAITING, OutcomeRecorder
from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Outcome, OutcomeKind
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff


class _Outcomes:
    """Takes a tenth of a second per write, and fails while it is away."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.away = False

    @property
    def stored(self) -> list[int]:
        return [offset for batch in self.batches for offset in batch]

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        await asyncio.sleep(0.1)
        if self.away:
            raise StorageUnavailable("away")
        self.batches.append([outcome.offset for outcome in outcomes])


def _outcome(offset: int) -> Outcome:
    return Outcome(gateway_id="gw", replica="", offset=offset, kind=OutcomeKind.APPLIED, reason="")


@asynccontextmanager
async def _recording() -> AsyncIterator[tuple[_Outcomes, OutcomeRecorder]]:
    outcomes = _Outcomes()
    recorder = OutcomeRecorder(cast("Any", outcomes), backoff=Backoff(first=1, longest=1))
    runner = asyncio.create_task(recorder.run())
    try:
        yield outcomes, recorder
    finally:
        runner.cancel()
        await asyncio.wait([runner])


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_outcomes_are_stored_in_their_order_and_in_batches() -> None:
    async def run() -> None:
        async with _recording() as (outcomes, recorder):
            for offset in range(1_200):
                recorder.report(_outcome(offset))
            await asyncio.sleep(1)
            assert outcomes.stored == list(range(1_200))
            assert len(outcomes.batches) == 3

    _run(run())


def test_whoever_reports_learns_when_it_is_stored_and_not_before() -> None:
    async def run() -> None:
        async with _recording() as (outcomes, recorder):
            told: list[int] = []
            outcomes.away = True
            recorder.report(_outcome(1), on_stored=lambda: told.append(1))
            await asyncio.sleep(10)
            assert told == []
            outcomes.away = False
            await asyncio.sleep(2)
            assert told == [1]

    _run(run())


def test_an_outage_keeps_order_and_loses_nothing_that_fits() -> None:
    async def run() -> None:
        async with _recording() as (outcomes, recorder):
            outcomes.away = True
            for offset in range(100):
                recorder.report(_outcome(offset))
                await asyncio.sleep(0.05)
            outcomes.away = False
            await asyncio.sleep(2)
            assert outcomes.stored == list(range(100))

    _run(run())


def test_when_there_is_no_room_left_the_oldest_go() -> None:
    """Also those that were on their way to the database when it failed."""

    async def run() -> None:
        async with _recording() as (outcomes, recorder):
            outcomes.away = True
            stored, dropped = list[int](), list[int]()
            for offset in range(500):
                recorder.report(
                    _outcome(offset),
                    on_stored=partial(stored.append, offset),
                    on_dropped=partial(dropped.append, offset),
                )
            await asyncio.sleep(0.05)
            # The first 500 are under way.
            for offset in range(500, MAX_WAITING + 300):
                recorder.report(_outcome(offset))
            await asyncio.sleep(1)
            outcomes.away = False
            await asyncio.sleep(5)
            assert outcomes.stored == list(range(300, MAX_WAITING + 300))
            assert (dropped, stored) == (list(range(300)), list(range(300, 500)))

    _run(run())
