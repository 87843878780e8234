from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gatecast import containment
from gatecast.wakeup.file_watch import FileWatch


class _Changes:
    """Counts what the watch noticed."""

    def __init__(self) -> None:
        self.count = 0
        self._noticed = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._noticed.set()

    async def next(self) -> None:
        """Return at the next change."""
        self._noticed.clear()
        await self._noticed.wait()


class _Logger:
    """Hands each failed attempt to the test."""

    def __init__(self) -> None:
        self.attempts: asyncio.Queue[int] = asyncio.Queue()

    def warning(self, _event: str, *, error: str, attempt: int, **_fields: object) -> None:
        """Take a warning."""
        assert error
        self.attempts.put_nowait(attempt)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with a write-ahead log, in a folder whose name needs quoting."""
    path = tmp_path / "a folder?#%20" / "events.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE note (number integer)")
    return path


def _commit(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("INSERT INTO note VALUES (1)")


@asynccontextmanager
async def _watching(file: Path, changes: _Changes) -> AsyncIterator[FileWatch]:
    watch = FileWatch(file, changes, interval=0.001)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch.run())
        yield watch
        task.cancel()


async def test_a_commit_of_another_connection_is_noticed(file: Path) -> None:
    changes = _Changes()
    async with _watching(file, changes) as watch:
        await changes.next()
        assert watch.working
        with closing(sqlite3.connect(file)) as connection:
            for _ in range(3):
                _commit(connection)
                await changes.next()
    assert changes.count >= 4


async def test_a_file_that_is_not_there_is_tried_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = _Logger()
    monkeypatch.setattr(containment, "_logger", logger)
    away = file.with_name("away.db")
    file.rename(away)
    changes = _Changes()
    async with _watching(file, changes) as watch:
        assert [await logger.attempts.get(), await logger.attempts.get()] == [1, 2]
        assert (watch.working, changes.count, file.exists()) == (False, 0, False)
        away.rename(file)
        await changes.next()
        assert (watch.working, changes.count) == (True, 1)
