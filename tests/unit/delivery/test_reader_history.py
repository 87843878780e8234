"""When the reader begins a new history, and when what looks like a lost tail has an innocent reason.

A new history makes every gateway of the installation resynchronize: neither to be missed nor to be begun by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import pytest

from gatecast.delivery.feed import Feed
from gatecast.delivery.reader import Reader
from gatecast.events import Position
from gatecast.storage.contract import Changes, ReadRequest, ReadResult, Remembered, Verdict
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff
from gatecast.wakeup.contract import EVERYTHING, Hint

_EPOCH = UUID(int=1)


class _Log:
    """Empty logs with heads; what it saw when it was asked is answered a second later."""

    def __init__(self) -> None:
        self.epoch = _EPOCH
        self.server = "one"
        self.marker = 1
        #: Logs that did not change since any marker that was given.
        self.unchanged: set[str] = set()
        self.heads = {"gw": 5, "other": 5}
        self.log_ids = {"gw": 1, "other": 2}
        #: What stands at an offset that was written over.
        self.replaced: dict[tuple[str, int], UUID] = {}
        self.synchronous = False
        self.settled = True
        #: What was decided when this pod found the history in another place.
        self.verdicts: list[Verdict] = []
        #: Whether it goes on there.
        self.goes_on = True
        self.renewals = 0
        #: Called when a question arrives.
        self.on_question: Callable[[], None] = lambda: None

    async def changed_since(self, marker: int) -> Changes:
        heads = {name: head for name, head in self.heads.items() if marker == 0 or name not in self.unchanged}
        changes = Changes(
            epoch=self.epoch,
            heads=heads,
            marker=self.marker,
            server=self.server,
            synchronous=self.synchronous,
            settled=self.settled,
        )
        self.on_question()
        await asyncio.sleep(1)
        return changes

    def event_id(self, gateway_id: str, offset: int) -> UUID:
        """Of the event at this offset."""
        return self.replaced.get((gateway_id, offset), UUID(int=self.log_ids[gateway_id] * 1000 + offset))

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        return [self._read(request.gateway_id) for request in requests]

    def _read(self, name: str) -> ReadResult:
        return ReadResult(
            epoch=self.epoch,
            events=[],
            head=self.heads[name],
            low_water_mark=0,
            server=self.server,
            log_id=self.log_ids[name],
            last_event_id=self.event_id(name, self.heads[name]),
        )

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        return any(
            each.log_id == self.log_ids[each.gateway_id]
            and (
                each.offset > self.heads[each.gateway_id]
                or each.event_id != self.event_id(each.gateway_id, each.offset)
            )
            for each in remembered
        )

    async def record_history(self, expected: UUID, verdict: Verdict) -> UUID:
        assert expected == self.epoch
        self.verdicts.append(verdict)
        self.settled = True
        if not self.goes_on:
            self.epoch = UUID(int=self.epoch.int + 1)
        return self.epoch

    async def renew_epoch(self, expected: UUID) -> UUID:
        assert expected == self.epoch
        self.renewals += 1
        self.epoch = UUID(int=self.epoch.int + 1)
        return self.epoch


@asynccontextmanager
async def _reading() -> AsyncIterator[tuple[_Log, Reader]]:
    log = _Log()
    reader = Reader(cast("Any", log), poll_interval=10, backoff=Backoff(first=1, longest=1))
    runner = asyncio.create_task(reader.run())
    await asyncio.sleep(2)
    try:
        yield log, reader
    finally:
        runner.cancel()
        await asyncio.wait([runner])


def _open(reader: Reader, after: int, gateway_id: str = "gw", epoch: UUID = _EPOCH) -> Feed:
    return reader.open(gateway_id, Position(epoch, after))


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_a_feed_opened_while_the_answer_is_on_its_way_may_be_ahead_of_it() -> None:
    """Another pod delivered event 6 to this gateway, and then the gateway came here with it confirmed."""

    async def run() -> None:
        async with _reading() as (log, reader):
            feeds: list[Feed] = []

            def move_gateway() -> None:
                log.on_question = lambda: None
                log.heads["gw"] = 6
                feeds.append(_open(reader, 6))

            log.on_question = move_gateway
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert [feed.end_reason for feed in feeds] == [None]
            assert log.renewals == 0

    _run(run())


def test_a_gateway_registered_again_has_lost_nothing_of_this_history() -> None:
    """Its log begins anew: its connections come back, and no other gateway is concerned."""

    async def run() -> None:
        async with _reading() as (log, reader):
            feeds = [_open(reader, 5), _open(reader, 5, "other")]
            await asyncio.sleep(1)
            log.heads["gw"], log.log_ids["gw"] = 0, 3
            reader.hint(Hint.at(["gw"]))
            await asyncio.sleep(5)
            assert [feed.end_reason for feed in feeds] == ["restarting", None]
            assert (log.renewals, reader.problem) == (0, None)

    _run(run())


def test_a_feed_that_is_not_recorded_yet_may_speak_of_the_log_of_a_deleted_gateway() -> None:
    """Its gateway was registered again since its position was looked up; only it has to look again."""

    async def run() -> None:
        async with _reading() as (log, reader):
            log.heads["gw"] = 0
            _, other = _open(reader, 5), _open(reader, 5, "other")
            reader.hint(EVERYTHING)
            await asyncio.sleep(15)
            assert (other.end_reason, log.renewals, reader.problem) == (None, 0, None)

    _run(run())


def test_s20_a_log_that_lost_its_tail_begins_a_new_history() -> None:
    """Every feed ends, and comes back to be told."""

    async def run() -> None:
        async with _reading() as (log, reader):
            feeds = [_open(reader, 5), _open(reader, 5, "other")]
            await asyncio.sleep(1)
            log.heads["gw"] = 4
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert [feed.end_reason for feed in feeds] == ["restarting", "restarting"]
            assert log.renewals == 1

    _run(run())


def test_s20_a_server_that_lags_is_noticed_although_its_transaction_ids_do_not() -> None:
    """Its marker lies ahead of the old server's, and what it lacks did not change since: only all heads tell."""

    async def run() -> None:
        async with _reading() as (log, reader):
            feeds = [_open(reader, 5), _open(reader, 5, "other")]
            await asyncio.sleep(1)
            log.server, log.marker = "two", 100
            log.heads["gw"] = 4
            log.unchanged = {"gw", "other"}
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert [feed.end_reason for feed in feeds] == ["restarting", "restarting"]
            assert log.renewals == 1

    _run(run())


def test_another_server_that_lacks_nothing_changes_nothing() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader, 5)
            await asyncio.sleep(1)
            log.server = "two"
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert (feed.end_reason, log.renewals) == (None, 0)

    _run(run())


def test_s20_the_loss_is_noticed_although_the_consumer_leaves_in_between() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader, 5)
            await asyncio.sleep(1)
            log.heads["gw"] = 4

            def leave() -> None:
                feed.end("closed")

            reader.hint(EVERYTHING)
            await asyncio.sleep(1.5)
            leave()
            reader.close(feed)
            await asyncio.sleep(5)
            assert log.renewals == 1

    _run(run())


def test_s20_a_read_that_finds_the_log_too_short_is_as_good_as_a_sweep() -> None:
    """A hint for one gateway comes long before the next sweep; all learn of it."""

    async def run() -> None:
        async with _reading() as (log, reader):
            feeds = [_open(reader, 5), _open(reader, 5, "other")]
            await asyncio.sleep(1)
            log.heads["gw"] = 4
            reader.hint(Hint.at(["gw"]))
            await asyncio.sleep(5)
            assert [feed.end_reason for feed in feeds] == ["restarting", "restarting"]
            assert log.renewals == 1

    _run(run())


def test_a_feed_of_the_old_history_that_nobody_has_closed_yet_begins_no_further_one() -> None:
    """A library's consumer may be busy for long; its ended feed says nothing about the new history."""

    async def run() -> None:
        async with _reading() as (log, reader):
            old = _open(reader, 5)
            await asyncio.sleep(1)
            log.heads["gw"] = 3
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            new = _open(reader, 3, epoch=log.epoch)
            for _ in range(5):
                log.heads["other"] += 1
                await asyncio.sleep(20)
            assert (old.end_reason, new.end_reason) == ("restarting", None)
            assert log.renewals == 1

    _run(run())


def test_a_history_that_another_pod_began_is_followed() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader, 5)
            await asyncio.sleep(1)
            log.epoch = UUID(int=77)
            log.heads["gw"] = 4
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert feed.end_reason == "restarting"
            assert log.renewals == 0

    _run(run())


def test_s20_another_event_in_the_place_of_one_that_was_read_begins_a_new_history() -> None:
    """As many new events as were lost: the log is as long as before, and only the ids tell."""

    async def run() -> None:
        async with _reading() as (log, reader):
            feeds = [_open(reader, 5), _open(reader, 5, "other")]
            await asyncio.sleep(1)
            log.server, log.replaced["gw", 5] = "two", UUID(int=77)
            reader.hint(Hint.at(["other"]))
            await asyncio.sleep(5)
            assert [feed.end_reason for feed in feeds] == ["restarting", "restarting"]
            assert log.renewals == 1

    _run(run())


def test_s20_what_was_read_is_remembered_when_its_connection_has_ended() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader, 5)
            await asyncio.sleep(1)
            reader.close(feed)
            log.server, log.heads["gw"], log.replaced["gw", 5] = "two", 8, UUID(int=77)
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert log.renewals == 1

    _run(run())


def test_s20_nothing_is_taken_from_a_server_that_was_not_looked_at() -> None:
    """A read for one gateway is the first that reaches it: what it brings could hide what is missing before."""

    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader, 5)
            await asyncio.sleep(1)
            log.server, log.heads["gw"], log.replaced["gw", 5] = "two", 6, UUID(int=77)
            reader.hint(Hint.at(["gw"]))
            await asyncio.sleep(0.5)
            assert feed.read_through == 5
            await asyncio.sleep(5)
            assert (feed.end_reason, log.renewals) == ("restarting", 1)

    _run(run())


@pytest.mark.parametrize(("synchronous", "verdict"), [(False, Verdict.DOUBT), (True, Verdict.RECORD)])
def test_s20_a_pod_that_saw_commits_wait_for_nobody_doubts_whatever_is_recorded(
    synchronous: bool,  # noqa: FBT001 - a parameter of the test
    verdict: Verdict,
) -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader, 5)
            log.synchronous = synchronous
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            log.server, log.settled = "two", False
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert log.verdicts == [verdict]
            assert (feed.end_reason, log.renewals, log.settled) == (None, 0, True)

    _run(run())


def test_s20_feeds_end_where_the_history_does_not_go_on() -> None:
    async def run() -> None:
        async with _reading() as (log, reader):
            feed = _open(reader, 5)
            await asyncio.sleep(1)
            log.server, log.settled, log.goes_on = "two", False, False
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert feed.end_reason == "restarting"

    _run(run())
