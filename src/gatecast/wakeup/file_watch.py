"""Notices that somebody changed an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff

_VERSION = "PRAGMA data_version"

_logger = get_logger("wakeup")


class FileWatch:
    """Asks SQLite now and then whether another connection committed; a question costs some microseconds."""

    def __init__(self, database: Path, changed: Callable[[], None], *, interval: float) -> None:
        self._uri = f"{database.absolute().as_uri()}?mode=ro"
        self._changed = changed
        self._interval = interval
        self._backoff = Backoff(first=interval, longest=1.0)
        #: Whether changes are noticed now.
        self.working = False

    async def run(self) -> None:
        """Watch until cancelled; a file that cannot be read is tried again."""
        attempt = 0
        while True:
            try:
                await self._watch()
            except sqlite3.Error as error:
                attempt = 1 if self.working else attempt + 1
                self.working = False
                _logger.warning("file-watch-failed", error=str(error), attempt=attempt)
            await asyncio.sleep(self._backoff.pause(attempt))

    async def _watch(self) -> None:
        # No time to wait for locks: this runs in the event loop's thread.
        with closing(sqlite3.connect(self._uri, uri=True, timeout=0)) as connection:
            seen = None
            while True:
                [version] = connection.execute(_VERSION).fetchone()
                self.working = True
                if version != seen:
                    # Also the first time: whatever happened before is found by looking once.
                    seen = version
                    self._changed()
                await asyncio.sleep(self._interval)
