"""When the reader begins a new history, and when what looks like a lost tail has an innocent reason.

A new history makes every gateway of the installation resynchronize: neither to be missed nor to be begun by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from gatecast.delivery.feed import Feed
from gatecast.delivery.reader import Reader
from gatecast.events import Position
from gatecast.storage.contract import Changes, Dismissal, ReadRequest, ReadResult
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
        self.renewals = 0
        #: Called when a question arrives.
        self.on_question: Callable[[], None] = lambda: None

    async def changed_since(self, marker: int) -> Changes:
        heads = {name: head for name, head in self.heads.items() if marker == 0 or name not in self.unchanged}
        changes = Changes(epoch=self.epoch, heads=heads, marker=self.marker, server=self.server)
        self.on_question()
        await asyncio.sleep(1)
        return changes

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        return [
            ReadResult(epoch=self.epoch, events=[], head=self.heads[request.gateway_id], trimmed_through=0)
            for request in requests
        ]

    async def renew_epoch(self, expected: UUID) -> UUID:
        assert expected == self.epoch
        self.renewals += 1
        self.epoch = UUID(int=self.epoch.int + 1)
        return self.epoch


@asynccontextmanager
async def _reading(obey: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[tuple[_Log, Reader]]:
    log = _Log()
    reader = Reader(cast("Any", log), poll_interval=10, backoff=Backoff(first=1, longest=1), obey=obey)
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
    """Its log begins anew, and its old connections are dismissed: no other gateway is concerned."""
    feeds: list[Feed] = []

    async def obey() -> None:
        await asyncio.sleep(1)
        feeds[0].end(Dismissal.GATEWAY_DELETED)

    async def run() -> None:
        async with _reading(obey) as (log, reader):
            feeds.extend([_open(reader, 5), _open(reader, 5, "other")])
            await asyncio.sleep(1)
            log.heads["gw"] = 0
            reader.hint(EVERYTHING)
            await asyncio.sleep(5)
            assert [feed.end_reason for feed in feeds] == ["gateway-deleted", None]
            assert log.renewals == 0

    _run(run())


def test_a_feed_that_is_not_recorded_yet_may_speak_of_the_log_of_a_deleted_gateway() -> None:
    """Its gateway was registered again since its position was looked up; recording it will tell."""

    async def run() -> None:
        async with _reading() as (log, reader):
            log.heads["gw"] = 0
            feed, other = _open(reader, 5), _open(reader, 5, "other")
            feed.provisional = True
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
