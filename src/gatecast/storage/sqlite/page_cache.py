"""Drops a connection's cached pages once they may be out of date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gatecast.storage.sqlite.statements import CONTROL


class PageCache:
    """Makes one connection read the file again after something has written to it.

    SQLite itself checks only its write-ahead log. If an older copy is written over the open file, it would see some
    pages of the copy and others from its cache. Checkpoints write to the file as well, but seldom.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: tuple[int, int] | None = None

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Drop the cached pages if the file's time or size has changed; call it outside of a transaction."""
        try:
            found = self._path.stat()
        except OSError:
            # The file was removed: writing and `ping` check that themselves.
            return
        written = (found.st_mtime_ns, found.st_size)
        if written != self._written:
            self._written = written
            connection.execute(CONTROL["forget_pages"])
