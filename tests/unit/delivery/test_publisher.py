"""What callers meet while statements run, fail, or are held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from uuid import UUID

import pytest

from gatecast.delivery.publisher import MAX_EVENTS_PER_PUBLISH, MAX_QUEUED_EVENTS, Publisher
from gatecast.errors import HubClosed, InvalidValue, Overloaded, StorageUnavailable, UnknownGateway
from gatecast.events import Action, Event, Position
from gatecast.storage.contract import Busy, PublishResult, Receipt
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.wakeup.contract import Hint


class _Log:
    """Stores one second after it is asked; `held` logs until they are released."""

    def __init__(self) -> None:
        self.statements: list[list[str]] = []
        self.stored: list[tuple[str, str]] = []
        self.failures = 0
        self.running = self.most_running = 0
        self.held: dict[str, asyncio.Event] = {}

    async def publish(self, groups: Sequence[Sequence[Event]], *, wait: bool) -> list[PublishResult]:
        self.statements.append([event.entity_id for events in groups for event in events])
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await asyncio.sleep(1)
            if self.failures:
                self.failures -= 1
                raise StorageUnavailable("away")
            return [await self._store(events, wait=wait) for events in groups]
        finally:
            self.running -= 1

    async def _store(self, events: Sequence[Event], *, wait: bool) -> PublishResult:
        for event in events:
            if event.gateway_id == "unknown":
                return UnknownGateway("unknown")
            if event.gateway_id in self.held and not wait:
                return Busy(event.gateway_id)
            if event.gateway_id in self.held:
                await self.held[event.gateway_id].wait()
        return tuple(map(self._record, events))

    def _record(self, event: Event) -> Receipt:
        self.stored.append((event.gateway_id, event.entity_id))
        position = Position(UUID(int=1), len(self.stored))
        return Receipt(gateway_id=event.gateway_id, event_id=event.event_id, position=position, created=True)


class _Bench:
    def __init__(self) -> None:
        self.log = _Log()
        self.hints: list[Hint] = []
        self.publisher = Publisher(cast("Any", self.log), send_hint=self.hints.append)
        self.runner: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.runner = asyncio.create_task(self.publisher.run())
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        assert self.runner is not None
        self.runner.cancel()
        with suppress(asyncio.CancelledError):
            await self.runner

    def start(self, name: str, gateway_id: str = "gw") -> asyncio.Task[tuple[Receipt, ...]]:
        return asyncio.create_task(self.publisher.publish([_event(name, gateway_id)]))


def _event(name: str, gateway_id: str = "gw") -> Event:
    return Event(gateway_id=gateway_id, type="t", action=Action.CREATE, entity_type="T", entity_id=name)


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_what_queues_while_a_statement_runs_goes_with_the_next_one() -> None:
    """One statement is in flight, in the order of the calls."""

    async def run() -> None:
        bench = _Bench()
        async with bench.running():
            first = bench.start("1")
            await asyncio.sleep(0.5)
            await asyncio.gather(first, bench.start("2"), bench.start("3"))
        assert bench.log.statements == [["1"], ["2", "3"]]
        assert bench.log.most_running == 1
        assert bench.hints == [Hint.at(["gw"])] * 2

    _run(run())


def test_s12_a_held_log_keeps_its_order_and_delays_nobody_else() -> None:
    async def run() -> None:
        bench = _Bench()
        release = bench.log.held["held"] = asyncio.Event()
        async with bench.running():
            first = bench.start("1", "held")
            await asyncio.sleep(2)
            later = [bench.start(name, "held") for name in ("2", "3")]
            await bench.start("free", "other")
            assert bench.log.stored == [("other", "free")]
            del bench.log.held["held"]
            release.set()
            await asyncio.gather(first, *later)
        assert bench.log.stored[1:] == [("held", "1"), ("held", "2"), ("held", "3")]

    _run(run())


def test_a_group_with_an_unknown_gateway_hinders_no_other() -> None:
    async def run() -> None:
        bench = _Bench()
        async with bench.running():
            refused, stored = bench.start("1", "unknown"), bench.start("2")
            with pytest.raises(UnknownGateway):
                await refused
            await stored
        assert bench.log.stored == [("gw", "2")]

    _run(run())


def test_a_caller_that_went_away_before_its_turn_is_left_out() -> None:
    async def run() -> None:
        bench = _Bench()
        async with bench.running():
            first = bench.start("1")
            await asyncio.sleep(0.5)
            gone, last = bench.start("2"), bench.start("3")
            await asyncio.sleep(0.1)
            gone.cancel()
            await asyncio.gather(first, last)
            await bench.publisher.drain()
        assert bench.log.statements == [["1"], ["3"]]
        assert bench.publisher.queued_events == 0

    _run(run())


@pytest.mark.parametrize(("failures", "succeeds"), [(1, True), (2, False)])
def test_s16_a_broken_connection_is_tried_once_more(*, failures: int, succeeds: bool) -> None:
    async def run() -> None:
        bench = _Bench()
        bench.log.failures = failures
        async with bench.running():
            [result] = await asyncio.gather(bench.start("1"), return_exceptions=True)
        assert isinstance(result, StorageUnavailable) is not succeeds
        assert bench.log.statements == [["1"], ["1"]]

    _run(run())


def test_more_than_the_queue_holds_is_refused() -> None:
    """Nobody sends here: what is accepted stays queued."""

    async def run() -> None:
        bench = _Bench()
        events = [_event("1")] * MAX_EVENTS_PER_PUBLISH
        calls = MAX_QUEUED_EVENTS // MAX_EVENTS_PER_PUBLISH
        waiting = [asyncio.create_task(bench.publisher.publish(events)) for _ in range(calls)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await bench.start("2")
        with pytest.raises(InvalidValue):
            await bench.publisher.publish([*events, _event("1")])
        for one in waiting:
            one.cancel()
        await bench.publisher.drain()

    _run(run())


def test_draining_answers_everything_accepted_and_accepts_nothing_more() -> None:
    async def run() -> None:
        bench = _Bench()
        async with bench.running():
            accepted = [bench.start(str(number)) for number in range(3)]
            await asyncio.sleep(0.5)
            accepted.append(bench.start("last"))
            await asyncio.sleep(0)
            await bench.publisher.drain()
            assert len(await asyncio.gather(*accepted)) == 4
            with pytest.raises(HubClosed):
                await bench.start("late")

    _run(run())


def test_whoever_waits_when_the_publisher_is_stopped_learns_it() -> None:
    """In the statement, in the queue and in a lane alike."""

    async def run() -> None:
        bench = _Bench()
        bench.log.held["held"] = asyncio.Event()
        async with bench.running():
            waiting = [bench.start("1", "held")]
            await asyncio.sleep(2.5)
            waiting += [bench.start("2", "held"), bench.start("3")]
            await asyncio.sleep(0.5)
            waiting.append(bench.start("4"))
            await asyncio.sleep(0.1)
            await bench.stop()
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [HubClosed] * 4

    _run(run())


def test_a_lane_that_is_cancelled_by_mistake_leaves_nobody_waiting() -> None:
    """Waiting callers are answered, and later events are stored."""

    async def run() -> None:
        bench = _Bench()
        bench.log.held["held"] = asyncio.Event()
        async with bench.running():
            waiting = [bench.start("1", "held")]
            await asyncio.sleep(2.5)
            waiting.append(bench.start("2", "held"))
            await asyncio.sleep(0.5)
            [lane] = [task for task in asyncio.all_tasks() if task.get_name() == "publish-lane-held"]
            lane.cancel()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [HubClosed] * 2
            bench.log.held.pop("held").set()
            await bench.start("3", "held")
            assert bench.log.stored == [("held", "3")]

    _run(run())


def test_s12_logs_that_are_held_for_long_do_not_stop_one_that_was_held_for_a_moment() -> None:
    """However many logs an application holds, the others go on, in their order."""

    async def run() -> None:
        bench = _Bench()
        for name in ("long-1", "long-2", "long-3", "moment"):
            bench.log.held[name] = asyncio.Event()
        async with bench.running():
            stuck = [bench.start(f"{number}", f"long-{number}") for number in (1, 2, 3)]
            await asyncio.sleep(5)
            brief = [bench.start("4", "moment"), bench.start("5", "moment")]
            await asyncio.sleep(5)
            brief.append(bench.start("6", "moment"))
            bench.log.held.pop("moment").set()
            await asyncio.gather(*brief)
            assert bench.log.stored == [("moment", "4"), ("moment", "5"), ("moment", "6")]
            assert bench.hints[-1] == Hint.at(["moment"])
            # One statement of everybody, two that wait, and one that looks.
            assert bench.log.most_running <= 4
            for name in ("long-1", "long-2", "long-3"):
                bench.log.held.pop(name).set()
            await asyncio.gather(*stuck)
            await bench.publisher.drain()
        assert bench.publisher.queued_events == 0

    _run(run())


def test_a_caller_that_goes_away_while_its_log_is_held_leaves_nothing_behind() -> None:
    async def run() -> None:
        bench = _Bench()
        bench.log.held["held"] = asyncio.Event()
        async with bench.running():
            first, gone, last = (bench.start(name, "held") for name in ("1", "2", "3"))
            await asyncio.sleep(5)
            gone.cancel()
            bench.log.held.pop("held").set()
            await asyncio.gather(first, last)
            await bench.publisher.drain()
        assert bench.publisher.queued_events == 0

    _run(run())


def test_batches_grow_with_the_load() -> None:
    """What a hundred callers publish while one statement runs is one statement, in their order."""

    async def run() -> None:
        bench = _Bench()
        async with bench.running():
            callers = [bench.start("first")]
            await asyncio.sleep(0.5)
            callers += [bench.start(f"{number}", f"gw-{number % 7}") for number in range(100)]
            receipts = await asyncio.gather(*callers)
            assert [one.gateway_id for (one,) in receipts[1:]] == [f"gw-{number % 7}" for number in range(100)]
        assert bench.log.statements == [["first"], [f"{number}" for number in range(100)]]

    _run(run())


def test_a_statement_is_bounded_and_a_group_is_never_split() -> None:
    async def run() -> None:
        bench = _Bench()
        async with bench.running():
            callers = [bench.start("first")]
            await asyncio.sleep(0.5)
            groups = [[_event(f"{number}")] * 300 for number in range(3)]
            callers += [asyncio.create_task(bench.publisher.publish(group)) for group in groups]
            callers.append(asyncio.create_task(bench.publisher.publish([_event("large")] * 2_000)))
            await asyncio.gather(*callers)
        assert [len(statement) for statement in bench.log.statements] == [1, 300, 300, 300, 2_000]

    _run(run())
