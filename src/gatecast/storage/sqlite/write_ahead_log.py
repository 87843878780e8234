"""Keeps the write-ahead log from growing without limit."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.statements import CONTROL
from gatecast.telemetry import get_logger, metrics

_MEBIBYTE = 1024 * 1024

#: Once the write-ahead log has this size in bytes, and after every further 16 MiB, a commit tries to empty it. SQLite
#: does so at 48 MiB by itself, but only while no connection reads an old state; with many readers there always is one.
SOFT_LIMIT = 64 * _MEBIBYTE

_STEP = 16 * _MEBIBYTE

#: Once the write-ahead log has this size in bytes, nothing more is written, because a full disk would be worse.
HARD_LIMIT = 1024 * _MEBIBYTE

_logger = get_logger("sqlite")


class WriteAheadLog:
    """The write-ahead log beside the file. Used by the writing thread only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._empty_from = SOFT_LIMIT

    def check(self, connection: sqlite3.Connection) -> None:
        """Return if the log is smaller than `HARD_LIMIT`, if need be after emptying it.

        Raises:
            StorageUnavailable: it cannot be emptied, because another process has been reading an old state for long.
        """
        if self._size() >= HARD_LIMIT and self._emptied(connection) >= HARD_LIMIT:
            raise StorageUnavailable(
                f"the write-ahead log has {HARD_LIMIT // _MEBIBYTE:,} MiB and cannot be emptied, because another "
                f"process reads an old state of {self._path.name.removesuffix('-wal')}; end that process"
            )

    def keep_small(self, connection: sqlite3.Connection) -> None:
        """Empty the log if it has grown; called after a commit, which no failure here undoes."""
        size = self._size()
        if size >= self._empty_from:
            size = self._emptied(connection)
            self._empty_from = max(SOFT_LIMIT, size + _STEP)
            if size >= SOFT_LIMIT:
                _logger.warning("write-ahead-log-grows", bytes=size, reason="another process reads an old state")
        elif size < SOFT_LIMIT:
            self._empty_from = SOFT_LIMIT
        metrics.write_ahead_log(size)

    def _emptied(self, connection: sqlite3.Connection) -> int:
        """The log's size in bytes after moving it into the file, as far as readers that end within 100 ms allow."""
        connection.execute(CONTROL["wait_shortly"])
        try:
            with suppress(sqlite3.OperationalError):
                connection.execute(CONTROL["empty_log"]).fetchall()
        finally:
            connection.execute(CONTROL["wait_long"])
        return self._size()

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0
