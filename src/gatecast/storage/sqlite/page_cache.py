"""What a connection remembers of the file, and when that is worth nothing any more."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gatecast.storage.sqlite.statements import CONTROL


class PageCache:
    """Makes one connection read the file anew once somebody has written to it.

    SQLite itself looks only at its write-ahead log: of an older copy that is written over the open file it would see
    some pages and not others. Its own checkpoints write to the file as well, but seldom.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: tuple[int, int] | None = None

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Forget the pages of a file that has another time or size than before; outside of a transaction."""
        try:
            found = self._path.stat()
        except OSError:
            # Removed: whoever writes, or says that all is well, looks at that by itself.
            return
        written = (found.st_mtime_ns, found.st_size)
        if written != self._written:
            self._written = written
            connection.execute(CONTROL["forget_pages"])
