"""The write-ahead log does not grow without end, even if a program reads an old state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite import SqliteStorage, write_ahead_log
from gatecast.telemetry import metrics
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event, publish

_KIBIBYTE = 1024


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_ahead_log, "SOFT_LIMIT", 500 * _KIBIBYTE)
    monkeypatch.setattr(write_ahead_log, "HARD_LIMIT", 2_000 * _KIBIBYTE)
    monkeypatch.setattr(write_ahead_log, "_STEP", 200 * _KIBIBYTE)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """A program reads an old state, as a shell with an open transaction does."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM gatecast_events").fetchone()
        yield


async def _publish_much(storage: SqliteStorage, times: int) -> None:
    for _ in range(times):
        await publish(storage, make_event(filling="x" * 100_000))


def _shown(registry: CollectorRegistry) -> float:
    return registry.get_sample_value("gatecast_sqlite_write_ahead_log_bytes") or 0.0


async def test_the_log_is_emptied_when_it_has_grown(file: Path) -> None:
    log = Path(f"{file}-wal")
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        await _publish_much(storage, 20)
        assert log.stat().st_size < 700 * _KIBIBYTE
        assert _shown(metrics.registry) == log.stat().st_size


async def test_while_it_cannot_be_emptied_publishing_ends_in_time_and_comes_back_by_itself(file: Path) -> None:
    log = Path(f"{file}-wal")
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        with _reading(file):
            with pytest.raises(StorageUnavailable, match="another process reads an old state"):
                await _publish_much(storage, 40)
            assert 2_000 * _KIBIBYTE <= log.stat().st_size < 2_300 * _KIBIBYTE
            assert _shown(metrics.registry) == log.stat().st_size
            stored = len(await ids_of(storage))
        await publish(storage, make_event())
        assert log.stat().st_size < 700 * _KIBIBYTE
        assert len(await ids_of(storage)) == stored + 1
