"""The reader, with hints lost, the database away, and its history replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from gatecast.delivery.feed import Feed
from gatecast.delivery.reader import Reader
from gatecast.errors import StorageUnavailable, SubscriptionClosed
from gatecast.events import Action, Position, RecordedEvent
from gatecast.storage.contract import Changes, ReadRequest, ReadResult, Remembered
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff
from gatecast.wakeup.contract import EVERYTHING, Hint

_EPOCH = UUID(int=1)
_POLL = 5.0


class _Log:
    """Logs that are as long as their heads say; a read looks at once and answers a tenth of a second later."""

    def __init__(self) -> None:
        self.epoch = _EPOCH
        self.heads = {"gw": 0, "hot": 0}
        self.away = False
        self.endless = False
        self.sweeps = 0

    async def changed_since(self, _marker: int) -> Changes:
        self._check()
        self.sweeps += 1
        return Changes(epoch=self.epoch, heads=dict(self.heads), marker=self.sweeps)

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        return any(each.offset > self.heads[each.gateway_id] for each in remembered)

    async def renew_epoch(self, _expected: UUID) -> UUID:
        self.epoch = UUID(int=self.epoch.int + 1)
        return self.epoch

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        self._check()
        if self.endless:
            self.heads["hot"] += 1
        results = [self._answer(request) for request in requests]
        await asyncio.sleep(0.1)
        return results

    def _check(self) -> None:
        if self.away:
            raise StorageUnavailable("away")

    def _answer(self, request: ReadRequest) -> ReadResult | None:
        if (head := self.heads.get(request.gateway_id)) is None:
            return None
        last = min(head, request.after + request.max_events)
        events = [_event(request.gateway_id, offset) for offset in range(request.after + 1, last + 1)]
        return ReadResult(epoch=self.epoch, events=events, head=head, low_water_mark=0)


def _event(gateway_id: str, offset: int) -> RecordedEvent:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return RecordedEvent(
        gateway_id=gateway_id,
        offset=offset,
        event_id=UUID(int=offset),
        type="t",
        action=Action.CREATE,
        entity_type="T",
        entity_id="e",
        payload="{}",
        originated_at=moment,
        recorded_at=moment,
    )


@asynccontextmanager
async def _reading() -> AsyncIterator[tuple[_Log, Reader]]:
    log = _Log()
    reader = Reader(cast("Any", log), poll_interval=_POLL, backoff=Backoff(first=1, longest=1))
    runner = asyncio.create_task(reader.run())
    try:
        yield log, reader
    finally:
        runner.cancel()
        with suppress(asyncio.CancelledError):
            await runner


def _open(reader: Reader, gateway_id: str = "gw", after: int = 0) -> Feed:
    return reader.open(gateway_id, Position(_EPOCH, after))


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_a_hint_during_a_read_is_not_lost() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader)
            await asyncio.sleep(0.05)
            log.heads["gw"] = 1
            reader.hint(Hint.at(["gw"]))
            await asyncio.sleep(0.2)
            assert feed.read_through == 1

    _run(run())


def test_s18_without_hints_events_arrive_within_the_poll_interval() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader)
            await asyncio.sleep(1)
            log.heads["gw"] = 1
            await asyncio.sleep(_POLL)
            assert feed.read_through == 1
            log.heads["gw"] = 2
            reader.hint(EVERYTHING)
            await asyncio.sleep(0.2)
            assert feed.read_through == 2

    _run(run())


def test_after_an_outage_the_feeds_go_on_where_they_were() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader)
            await asyncio.sleep(1)
            log.away, log.heads["gw"] = True, 3
            await asyncio.sleep(60)
            assert reader.problem is not None
            log.away = False
            await asyncio.sleep(2)
            assert [event.offset for event in feed.take_now(9)] == [1, 2, 3]
            assert reader.problem is None

    _run(run())


def test_s20_a_head_below_what_was_read_begins_a_new_history() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            log.heads["gw"] = 5
            feed = _open(reader)
            await asyncio.sleep(1)
            log.heads["gw"] = 3
            await asyncio.sleep(_POLL)
            assert log.epoch != _EPOCH
            with pytest.raises(SubscriptionClosed, match="restarting"):
                feed.take_now(1)

    _run(run())


def test_a_hot_feed_does_not_starve_the_others() -> None:
    """It always wants more; still the log is asked for changes in time."""

    async def run() -> None:
        async with _reading() as (log, reader):
            hot, quiet = _open(reader, "hot"), _open(reader)
            log.endless = True
            log.heads["gw"] = 0
            for second in range(60):
                if second == 30:
                    log.heads["gw"] = 1
                await asyncio.sleep(1)
                hot.take_now(256)
                reader.hint(Hint.at(["hot"]))
            assert log.sweeps >= 60 / _POLL - 1
            assert quiet.read_through == 1

    _run(run())


def test_a_deleted_gateway_ends_its_feeds_and_a_closed_feed_leaves_nothing() -> None:
    async def run() -> None:
        async with _reading() as (_, reader):
            gone, closed = _open(reader, "nobody"), _open(reader)
            reader.close(closed)
            reader.close(closed)
            await asyncio.sleep(1)
            with pytest.raises(SubscriptionClosed, match="gateway-deleted"):
                gone.take_now(1)
            assert reader.feeds == 1

    _run(run())
