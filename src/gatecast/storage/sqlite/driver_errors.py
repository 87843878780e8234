"""The one place that turns errors of SQLite into errors of Gatecast."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from gatecast.errors import (
    GatecastError,
    LogHeld,
    SchemaMissing,
    StatementFailed,
    StorageError,
    StorageUnavailable,
    ValueRefused,
)
from gatecast.storage.moved import TOLD

#: The file, the disk, the memory or another process is at fault, not the statement.
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


#: A value is at fault: it is too large, of another type, or a constraint forbids it.
_VALUE_REFUSED = {
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_CONSTRAINT_CHECK,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL,
}

#: The advice where waiting would not help, because nothing is locked.
_READ_TOO_EARLY = (
    "the transaction began by reading, and others have written since, so it cannot write any more: "
    "roll it back, and begin it with BEGIN IMMEDIATE"
)


@contextmanager
def translated() -> Iterator[None]:
    """A block whose errors are raised as those of `gatecast.errors`.

    An error that is on no list becomes `StatementFailed`, so that it fails only its own caller (promise P11).
    """
    try:
        yield
    except GatecastError:
        raise
    except Exception as error:
        raise _translation(error) from error


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection held a lock for longer than the wait for it."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def _translation(error: Exception) -> StorageError:
    if isinstance(error, OSError):
        return StorageUnavailable(f"{type(error).__name__}: {error.strerror}")
    if isinstance(error, sqlite3.DatabaseError):
        if "no such table" in str(error):
            return SchemaMissing()
        if _code(error) == sqlite3.SQLITE_BUSY_SNAPSHOT:
            return StorageUnavailable(_READ_TOO_EARLY)
        if is_busy(error):
            return LogHeld("every log of this file")
        if _primary_code(error) in _UNAVAILABLE or str(error) in TOLD:
            return StorageUnavailable(str(error))
    return (ValueRefused if _is_of_a_value(error) else StatementFailed)(_kind(error))


def _is_of_a_value(error: Exception) -> bool:
    """Whether the driver could not bind a value, or SQLite could not store it."""
    if isinstance(error, UnicodeEncodeError | OverflowError | sqlite3.DataError):
        return True
    code = _code(error)
    return not _VALUE_REFUSED.isdisjoint((code, code & 0xFF))


def _kind(error: Exception) -> str:
    """The kind of error; with SQLite's own message, which names only tables and statements, and never a value."""
    name = getattr(error, "sqlite_errorname", None)
    if name is None:
        return type(error).__name__
    return f"{type(error).__name__} ({name}): {error}"


def _primary_code(error: sqlite3.Error) -> int:
    """The error code without its extension: `SQLITE_BUSY` for `SQLITE_BUSY_SNAPSHOT`."""
    return _code(error) & 0xFF


def _code(error: Exception) -> int:
    """The extended error code; `SQLITE_ERROR` for errors of the driver itself, which have no code."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code
