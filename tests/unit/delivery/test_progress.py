from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from uuid import UUID

from gatecast.delivery.progress import FLUSH_INTERVAL, ProgressRecorder
from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Progress
from gatecast.testing.doubles.moving_connection import MovingConnection
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff


class _Presence:
    """Takes a tenth of a second per write, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, int]] = []
        self.attempts = 0
        self.failures = 0

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        await self._write("record", progress)

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        await self._write("leave", progress)

    async def _write(self, what: str, progress: Sequence[Progress]) -> None:
        self.attempts += 1
        await asyncio.sleep(0.1)
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("away")
        self.written += [(what, one.connection_id, one.confirmed) for one in progress]


def _progress(confirmed: int, connection_id: str = "c") -> Progress:
    return Progress(
        connection_id=connection_id,
        gateway_id="gw",
        replica="",
        epoch=UUID(int=1),
        sent=confirmed,
        confirmed=confirmed,
    )


def _moved(confirmed: int, connection_id: str = "c") -> MovingConnection:
    return MovingConnection(_progress(confirmed, connection_id))


@asynccontextmanager
async def _recording() -> AsyncIterator[tuple[_Presence, ProgressRecorder]]:
    presence = _Presence()
    recorder = ProgressRecorder(cast("Any", presence), backoff=Backoff(first=1, longest=1))
    runner = asyncio.create_task(recorder.run())
    try:
        yield presence, recorder
    finally:
        runner.cancel()
        with suppress(asyncio.CancelledError):
            await runner


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


def test_what_moves_between_two_writes_is_written_once() -> None:
    async def run() -> None:
        async with _recording() as (presence, recorder):
            recorder.report(_moved(1))
            await asyncio.sleep(0.15)
            for confirmed in range(2, 50):
                recorder.report(_moved(confirmed))
            await asyncio.sleep(2 * FLUSH_INTERVAL)
            assert presence.written == [("record", "c", 1), ("record", "c", 49)]

    _run(run())


def test_what_moves_during_a_write_is_written_after_it() -> None:
    async def run() -> None:
        async with _recording() as (presence, recorder):
            recorder.report(_moved(1))
            await asyncio.sleep(0.05)
            recorder.report(_moved(2))
            await recorder.flush()
            assert presence.written == [("record", "c", 1), ("record", "c", 2)]

    _run(run())


def test_a_connection_that_leaves_is_written_for_the_last_time() -> None:
    """What it reported before is older, and what comes after is nobody's any more."""

    async def run() -> None:
        async with _recording() as (presence, recorder):
            recorder.report(_moved(1))
            recorder.leave(_progress(2))
            recorder.report(_moved(3))
            await recorder.flush()
            assert presence.written == [("leave", "c", 2)]

    _run(run())


def test_an_outage_loses_nothing() -> None:
    async def run() -> None:
        async with _recording() as (presence, recorder):
            presence.failures = 3
            recorder.leave(_progress(1, "gone"))
            recorder.report(_moved(2))
            await recorder.flush()
            assert presence.written == [("leave", "gone", 1), ("record", "c", 2)]

    _run(run())


async def _report_without_end(recorder: ProgressRecorder) -> None:
    for confirmed in range(1_000_000):
        recorder.report(_moved(confirmed, f"c{confirmed % 3}"))
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _under_load() -> AsyncIterator[tuple[_Presence, ProgressRecorder]]:
    async with _recording() as (presence, recorder):
        load = asyncio.create_task(_report_without_end(recorder))
        await asyncio.sleep(1.03)
        try:
            yield presence, recorder
        finally:
            load.cancel()
            await asyncio.wait([load])


def test_under_load_progress_is_gathered_between_writes() -> None:
    """There is always something new, and still the database is written to a few times a second only."""

    async def run() -> None:
        async with _under_load() as (presence, _):
            presence.attempts = 0
            await asyncio.sleep(30)
            assert 90 <= presence.attempts <= 100

    _run(run())


def test_under_load_a_flush_returns_and_a_leaving_connection_is_written_at_once() -> None:
    async def run() -> None:
        async with _under_load() as (presence, recorder):
            clock = asyncio.get_running_loop().time
            began = clock()
            recorder.leave(_progress(7, "gone"))
            await recorder.flush()
            assert ("leave", "gone", 7) in presence.written
            # At most the write that is under way, and the two of the next round.
            assert clock() - began < 0.45

    _run(run())


def test_a_connection_that_leaves_during_a_write_is_not_written_after_its_end() -> None:
    async def run() -> None:
        async with _recording() as (presence, recorder):
            recorder.report(_moved(1))
            await asyncio.sleep(0.05)
            recorder.leave(_progress(2))
            await recorder.flush()
            recorder.report(_moved(3, "other"))
            await recorder.flush()
            assert presence.written == [("record", "c", 1), ("leave", "c", 2), ("record", "other", 3)]

    _run(run())


def test_a_flush_with_nothing_to_store_returns_at_once() -> None:
    async def run() -> None:
        async with _recording() as (presence, recorder):
            await recorder.flush()
            recorder.report(_moved(1))
            await recorder.flush()
            await recorder.flush()
            assert presence.attempts == 1

    _run(run())


def test_a_flush_that_is_cancelled_harms_no_other() -> None:
    async def run() -> None:
        async with _recording() as (presence, recorder):
            presence.failures = 2
            recorder.report(_moved(1))
            impatient, patient = (asyncio.create_task(recorder.flush()) for _ in range(2))
            await asyncio.sleep(0.05)
            impatient.cancel()
            await patient
            assert presence.written == [("record", "c", 1)]

    _run(run())


def test_a_flush_does_not_wait_for_a_recorder_that_has_ended() -> None:
    """A close after the hub's end, with the database away, does not hang for ever."""

    async def run() -> None:
        async with _recording() as (presence, recorder):
            presence.failures = 1_000
            recorder.leave(_progress(1))
            waiting = asyncio.create_task(recorder.flush())
            await asyncio.sleep(1)
        await waiting
        await recorder.flush()
        assert presence.written == []

    _run(run())
