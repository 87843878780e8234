"""Keeps the write-ahead log from growing without an end."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.statements import CONTROL
from gatecast.telemetry import get_logger, metrics

_MEBIBYTE = 1024 * 1024

#: From this size on, each commit that has added another step tries to empty the log; in bytes. SQLite itself does so at
#: 16 MiB, but only while no connection reads an old state; with many readers there always is one.
SOFT_LIMIT = 64 * _MEBIBYTE

_STEP = 16 * _MEBIBYTE

#: At this size nothing more is written, because a full disk would be worse; in bytes.
HARD_LIMIT = 1024 * _MEBIBYTE

_logger = get_logger("sqlite")


class WriteAheadLog:
    """The log beside the file, as the writing thread sees it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._empty_from = SOFT_LIMIT

    def check(self, connection: sqlite3.Connection) -> None:
        """Return when there is room to write; empties the log first where there is none.

        Raises:
            StorageUnavailable: there is none, because somebody has been reading an old state for long.
        """
        if self._size() >= HARD_LIMIT and self._emptied(connection) >= HARD_LIMIT:
            raise StorageUnavailable(
                f"the write-ahead log has {HARD_LIMIT // _MEBIBYTE:,} MiB and cannot be emptied, because another "
                f"process reads an old state of {self._path.name.removesuffix('-wal')}; end that process"
            )

    def keep_small(self, connection: sqlite3.Connection) -> None:
        """Empty the log when it has grown; called after a commit, which stands whatever happens here."""
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
        """Move the log into the file, waiting for readers only a moment; return the size that it has then."""
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
