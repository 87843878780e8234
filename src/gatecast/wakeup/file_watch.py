"""Notices that an SQLite file has changed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gatecast.containment import RetryLoop
from gatecast.waiting import Backoff

_VERSION = "PRAGMA data_version"


class FileWatch:
    """Asks SQLite now and then whether another connection committed; a question costs some microseconds."""

    def __init__(self, database: Path, changed: Callable[[], None], *, interval: float) -> None:
        self._uri = f"{database.absolute().as_uri()}?mode=ro"
        self._changed = changed
        self._interval = interval
        self._loop = RetryLoop(
            "file-watch-failed",
            "changes of the file are not noticed",
            backoff=Backoff(first=interval, longest=1.0),
            on_failure=self._note_failure,
        )
        #: Whether changes are noticed now.
        self.working = False

    async def run(self) -> None:
        """Watch until cancelled; a file that cannot be read is tried again."""
        await self._loop.run(self._watch, rest=lambda: asyncio.sleep(self._interval))

    def _note_failure(self) -> None:
        self.working = False

    async def _watch(self) -> None:
        # No time to wait for locks: this runs in the event loop's thread.
        with closing(sqlite3.connect(self._uri, uri=True, timeout=0)) as connection:
            seen = None
            while True:
                [version] = connection.execute(_VERSION).fetchone()
                self.working = True
                self._loop.succeeded()
                if version != seen:
                    # Also the first time: whatever happened before is found by looking once.
                    seen = version
                    self._changed()
                await asyncio.sleep(self._interval)
