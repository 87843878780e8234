"""Compares the history in the database with the history file beside it. Runs inside a transaction."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import datetime
from uuid import UUID, uuid4

from gatecast.errors import StorageUnavailable
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.history_file import HistoryFile, UnitOfWork
from gatecast.storage.sqlite.statements import change, select
from gatecast.storage.sqlite.values import to_text

_QUERIES = Queries("gatecast.storage.sqlite", "history.sql")


def last_change(connection: sqlite3.Connection) -> UnitOfWork | None:
    """The last change that this transaction sees, its own included; None if the schema is missing or too old."""
    try:
        [(number, token)] = select(connection, _QUERIES["last_change"])
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            return None
        raise
    return UnitOfWork(number, token)


def go_on(connection: sqlite3.Connection, file: HistoryFile, moment: datetime) -> None:
    """Begin a new history if the database was put back to an older state (scenario S20).

    The caller holds the write lock, so that only one process does it.
    """
    # The history file first: every change in it is then in the database, or lost.
    known = file.read()
    present = last_change(connection)
    if present is not None and known is not None and file.denies(known, present):
        [(epoch,)] = select(connection, _QUERIES["epoch"])
        begin(connection, UUID(epoch), behind=known[0].number, moment=moment)


def keep(connection: sqlite3.Connection, file: HistoryFile, expected: UUID) -> None:
    """Forget what the history file says if the epoch is `expected`, so that the history continues.

    The caller holds the write lock, so that no other process decides at the same time.
    """
    [(epoch,)] = select(connection, _QUERIES["epoch"])
    if UUID(epoch) == expected:
        file.remove()


def begin(connection: sqlite3.Connection, expected: UUID, *, behind: int, moment: datetime) -> None:
    """Begin a new history if the present epoch is `expected`; else change nothing.

    `behind` is the number of the last known change. Changes of the new history get higher numbers, so that no number is
    used twice, not even that of a lost change.
    """
    if change(connection, _QUERIES["renew"], expected, uuid4(), to_text(moment), behind, uuid4()):
        change(connection, _QUERIES["touch_every_stream"])
        change(connection, _QUERIES["forget_connections"])


def remember(file: HistoryFile, present: UnitOfWork | None) -> None:
    """Write a committed change to the history file, unless a later one is in it; a failure only leaves it older."""
    with suppress(StorageUnavailable):
        if present is not None and file.lags(file.read(), present):
            file.write(present)
