"""Culprit and innocents in one batch: the culprit fails alone (promise P11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from gatecast.delivery.outcomes import OutcomeRecorder
from gatecast.delivery.progress import ProgressRecorder
from gatecast.delivery.publisher import Publisher
from gatecast.delivery.reader import Reader
from gatecast.errors import StatementFailed, StorageUnavailable, ValueRefused
from gatecast.events import Action, Event, Position, RecordedEvent
from gatecast.storage.contract import Changes, Outcome, OutcomeKind, Progress, PublishResult, ReadRequest, ReadResult
from gatecast.storage.contract import Receipt as StoredReceipt
from gatecast.testing.doubles.moving_connection import MovingConnection
from gatecast.testing.virtual_time import run_in_virtual_time

_EPOCH = UUID(int=1)
_FAILURES = [StatementFailed("UnknownPostgresError (ZZ999)"), ValueRefused("22P05"), ZeroDivisionError("unforeseen")]

each_failure = pytest.mark.parametrize("failure", _FAILURES, ids=lambda each: type(each).__name__)


class _Store:
    """Refuses every batch in which the culprit is, while there is one."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.culprit: str | None = "culprit"
        self.away = False
        self.stored: list[str] = []

    def check(self, names: Sequence[str]) -> None:
        if self.away:
            raise StorageUnavailable("away")
        if self.culprit in names:
            raise self.failure

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        await self._store([each.gateway_id for each in progress])

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        await self._store([f"{each.gateway_id} left" for each in progress], [each.gateway_id for each in progress])

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        await self._store([each.gateway_id for each in outcomes])

    async def _store(self, stored: Sequence[str], names: Sequence[str] | None = None) -> None:
        await asyncio.sleep(0.01)
        self.check(names or stored)
        self.stored += stored


@asynccontextmanager
async def _running(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    running = asyncio.create_task(work())
    try:
        yield
        assert not running.done()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _progress(gateway_id: str, offset: int = 1) -> Progress:
    return Progress(
        connection_id=gateway_id, gateway_id=gateway_id, replica="", epoch=_EPOCH, sent=offset, confirmed=offset
    )


@each_failure
@pytest.mark.parametrize("leaves", [False, True])
def test_a_position_that_cannot_be_stored_keeps_no_other_waiting_and_is_tried_again(
    failure: Exception, *, leaves: bool
) -> None:
    async def run() -> None:
        store = _Store(failure)
        recorder = ProgressRecorder(cast("Any", store))
        async with _running(recorder.run):
            for name in ("a", "culprit", "b"):
                if leaves:
                    recorder.leave(_progress(name))
                else:
                    recorder.report(MovingConnection(_progress(name)))
            await recorder.flush()
            assert store.stored == (["a left", "b left"] if leaves else ["a", "b"])
            recorder.report(MovingConnection(_progress("c")))
            await asyncio.sleep(1)
            assert store.stored[-1] == "c"
            await asyncio.sleep(60)
            assert recorder.loop.problem is None
            store.culprit = None
            await asyncio.sleep(6)
            assert store.stored[-1] == ("culprit left" if leaves else "culprit")

    run_in_virtual_time(run())


@each_failure
def test_an_outcome_that_cannot_be_stored_sends_its_connection_away_and_nobody_else(failure: Exception) -> None:
    """While the database is away everything waits, the culprit as well."""

    async def run() -> None:
        store, told = _Store(failure), list[str]()
        recorder = OutcomeRecorder(cast("Any", store))
        async with _running(recorder.run):
            store.away = True
            for name in ("a", "culprit", "b"):
                recorder.report(
                    Outcome(gateway_id=name, replica="", offset=1, kind=OutcomeKind.PARKED, reason=""),
                    on_stored=lambda name=name: told.append(f"{name} stored"),  # type: ignore[misc]
                    on_dropped=lambda name=name: told.append(f"{name} dropped"),  # type: ignore[misc]
                )
            await asyncio.sleep(60)
            assert told == []
            store.away = False
            await asyncio.sleep(10)
            assert told == ["a stored", "culprit dropped", "b stored"]
            assert store.stored == ["a", "b"]

    run_in_virtual_time(run())


class _PublishingLog:
    """Takes everything but what is called `bad`, one statement after the other."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.logs: dict[str, list[str]] = {}

    async def publish(self, groups: Sequence[Sequence[Event]], *, wait: bool) -> list[PublishResult]:
        assert not wait
        await asyncio.sleep(1)
        if any(event.entity_id == "bad" for group in groups for event in group):
            raise self.failure
        return [tuple(map(self._append, group)) for group in groups]

    def _append(self, event: Event) -> StoredReceipt:
        log = self.logs.setdefault(event.gateway_id, [])
        log.append(event.entity_id)
        position = Position(_EPOCH, len(log))
        return StoredReceipt(gateway_id=event.gateway_id, event_id=event.event_id, position=position, created=True)


@each_failure
def test_events_that_are_refused_fail_their_publisher_alone_and_keep_each_gateways_order(failure: Exception) -> None:
    """A hint that cannot be sent fails nobody."""

    def no_hint(_hint: object) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        log = _PublishingLog(failure)
        publisher = Publisher(cast("Any", log), send_hint=no_hint)
        async with _running(publisher.run):
            names = [("g", "1"), ("h", "1"), ("g", "bad"), ("g", "2"), ("h", "2"), ("h", "bad"), ("g", "3")]
            results = await asyncio.gather(
                *(
                    publisher.publish(
                        [Event(gateway_id=gateway, type="t", action=Action.CREATE, entity_type="T", entity_id=name)]
                    )
                    for gateway, name in names
                ),
                return_exceptions=True,
            )
        refused = [name for name, result in zip(names, results, strict=True) if isinstance(result, StatementFailed)]
        assert refused == [("g", "bad"), ("h", "bad")]
        assert log.logs == {"g": ["1", "2", "3"], "h": ["1", "2"]}
        assert publisher.problem is None

    run_in_virtual_time(run())


class _ReadingLog:
    """Fails each read of the culprit's log that would bring its third event, or each read of it."""

    def __init__(self, failure: Exception, *, whole_log: bool) -> None:
        self.failure = failure
        self.whole_log = whole_log
        self.broken = True

    async def changed_since(self, _marker: int) -> Changes:
        return Changes(epoch=_EPOCH, heads=dict.fromkeys(("a", "culprit", "b"), 5), marker=1)

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        await asyncio.sleep(0.01)
        return [self._result(request) for request in requests]

    def _result(self, request: ReadRequest) -> ReadResult:
        last = min(5, request.after + request.max_events)
        offsets = range(request.after + 1, last + 1)
        if self.broken and request.gateway_id == "culprit" and (self.whole_log or 3 in offsets):
            raise self.failure
        events = [_recorded(request.gateway_id, offset) for offset in offsets]
        return ReadResult(epoch=_EPOCH, events=events, head=5, low_water_mark=0)


def _recorded(gateway_id: str, offset: int) -> RecordedEvent:
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


@each_failure
def test_a_row_that_cannot_be_fetched_comes_as_an_event_that_cannot_be_delivered(failure: Exception) -> None:
    async def run() -> None:
        reader = Reader(cast("Any", _ReadingLog(failure, whole_log=False)), poll_interval=1)
        feeds = [reader.open(name, Position(_EPOCH, 0)) for name in ("a", "culprit", "b")]
        async with _running(reader.run):
            await asyncio.sleep(2)
            taken = [feed.take_now(10) for feed in feeds]
            assert [[event.offset for event in events] for events in taken] == [[1, 2, 3, 4, 5]] * 3
            damaged = [(event.gateway_id, event.offset) for events in taken for event in events if event.undeliverable]
            assert damaged == [("culprit", 3)]
            assert reader.problem is None

    run_in_virtual_time(run())


@each_failure
def test_a_log_that_cannot_be_read_waits_alone(failure: Exception) -> None:
    """Also when its gateway is the only one of this pod: reading nothing succeeds, so reading is not broken."""

    async def run() -> None:
        for names in (("a", "culprit", "b"), ("culprit",)):
            log = _ReadingLog(failure, whole_log=True)
            reader = Reader(cast("Any", log), poll_interval=1)
            feeds = {name: reader.open(name, Position(_EPOCH, 0)) for name in names}
            async with _running(reader.run):
                await asyncio.sleep(60)
                assert reader.problem is None
                assert {name: feed.read_through for name, feed in feeds.items()} == {
                    name: 0 if name == "culprit" else 5 for name in names
                }
                log.broken = False
                await asyncio.sleep(10)
                assert feeds["culprit"].read_through == 5

    run_in_virtual_time(run())
