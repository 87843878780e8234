"""The one place where errors of SQLite become errors of Gatecast."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from gatecast.errors import SchemaMissing, StorageError, StorageUnavailable

#: What is wrong with the file, the disk, the memory or the neighbours, and not with the statement.
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOTADB,
}


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the driver come out of this block as ours.

    Broken constraints and faulty statements pass unchanged: they are mistakes of the code that made them.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        translation = _translation(error)
        if translation is None:
            raise
        raise translation from error


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection held a lock for too long."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def _translation(error: sqlite3.DatabaseError) -> StorageError | None:
    if "no such table" in str(error):
        return SchemaMissing()
    if _primary_code(error) in _UNAVAILABLE:
        return StorageUnavailable(str(error))
    return None


def _primary_code(error: sqlite3.Error) -> int:
    """The kind of error; the driver gives errors that it found by itself no code."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF
