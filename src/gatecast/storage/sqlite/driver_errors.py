"""The one place where errors of SQLite become errors of Gatecast."""

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


#: A value is at fault: it is too large, of another type, or a constraint forbids it.
_VALUE_REFUSED = {
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_CONSTRAINT_CHECK,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL,
}

#: Waiting would not help: nobody holds anything.
_READ_TOO_EARLY = (
    "the transaction began by reading, and others have written since, so it cannot write any more: "
    "roll it back, and begin it with BEGIN IMMEDIATE"
)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the driver, and of the code around it, come out of this block as ours.

    What is on no list is `StatementFailed`: the caller is answered, and nothing else ends (promise P11).
    """
    try:
        yield
    except GatecastError:
        raise
    except Exception as error:
        raise _translation(error) from error


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection held a lock for too long."""
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
        if _primary_code(error) in _UNAVAILABLE:
            return StorageUnavailable(str(error))
    return (ValueRefused if _is_of_a_value(error) else StatementFailed)(_kind(error))


def _is_of_a_value(error: Exception) -> bool:
    """Whether the driver could not bind a value, or SQLite could not store it."""
    if isinstance(error, UnicodeEncodeError | OverflowError | sqlite3.DataError):
        return True
    code = _code(error)
    return not _VALUE_REFUSED.isdisjoint((code, code & 0xFF))


def _kind(error: Exception) -> str:
    """The kind of error, and its words where they name no more than tables and statements, and never a value."""
    name = getattr(error, "sqlite_errorname", None)
    if name is None:
        return type(error).__name__
    return f"{type(error).__name__} ({name}): {error}"


def _primary_code(error: sqlite3.Error) -> int:
    """The kind of error."""
    return _code(error) & 0xFF


def _code(error: Exception) -> int:
    """The exact error; the driver gives errors that it found by itself no code."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code
