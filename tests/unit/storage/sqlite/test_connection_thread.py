from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.connection import make_file, open_writer
from gatecast.storage.sqlite.connection_thread import ConnectionThread


class _HeldWork:
    """Work that a test lets begin and end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.done = False
        self._may_end = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, _connection: sqlite3.Connection) -> str:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self._may_end.wait(30)
        self.done = True
        return "result"

    def release(self) -> None:
        self._may_end.set()


def _thread(file: Path) -> ConnectionThread:
    make_file(file)
    return ConnectionThread("test", lambda: open_writer(file))


async def test_work_runs_in_one_thread_of_its_own(file: Path) -> None:
    async with _thread(file) as thread:
        threads = [await thread.run(lambda _: threading.get_ident()) for _ in range(3)]
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_work_to_its_end_outlives_every_cancellation(file: Path) -> None:
    async with _thread(file) as thread:
        work = _HeldWork()
        task = asyncio.create_task(thread.run_to_its_end(work))
        await work.begun.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        work.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.done


async def test_a_cancelled_failure_shows_as_the_cancellation(file: Path) -> None:
    async with _thread(file) as thread:
        held = _HeldWork()

        def fail(connection: sqlite3.Connection) -> None:
            held(connection)
            raise ValueError

        task = asyncio.create_task(thread.run_to_its_end(fail))
        await held.begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_work_that_is_cancelled_in_the_queue_is_not_done(file: Path) -> None:
    async with _thread(file) as thread:
        held, waiting = _HeldWork(), _HeldWork()
        first = asyncio.create_task(thread.run(held))
        await held.begun.wait()
        second = asyncio.create_task(thread.run(waiting))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        held.release()
        assert await first == "result"
    assert not waiting.done


async def test_closing_waits_for_work_under_way(file: Path) -> None:
    async with _thread(file) as thread:
        held = _HeldWork()
        task = asyncio.create_task(thread.run(held))
        await held.begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        asyncio.get_running_loop().call_soon(held.release)
    assert held.done


async def test_a_closed_connection_is_unavailable(file: Path) -> None:
    async with _thread(file) as thread:
        pass
    with pytest.raises(StorageUnavailable, match="closed"):
        await thread.run(lambda _: None)


@pytest.mark.parametrize("spoil", [lambda file: file.mkdir(), lambda file: file.write_bytes(b"no database" * 200)])
async def test_a_file_that_cannot_be_opened_is_unavailable(file: Path, spoil: Callable[[Path], object]) -> None:
    spoil(file)
    with pytest.raises(StorageUnavailable):
        async with _thread(file):
            pass


async def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="unable to open database file"):
        async with _thread(tmp_path / "nowhere" / "events.db"):
            pass
