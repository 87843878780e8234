"""Takes part in a transaction that the caller has opened on a `sqlite3` connection of its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TypeVar

from gatecast.errors import TransactionUnusable
from gatecast.storage.sqlite.connection_thread import Work
from gatecast.storage.sqlite.driver_errors import translated
from gatecast.storage.sqlite.statements import CONTROL, part, select

T = TypeVar("T")


def work_inside(connection: sqlite3.Connection, path: Path, work: Work[T]) -> T:
    """The result of the work as a part of the connection's open transaction.

    Runs in the caller's thread, where the connection belongs.

    Raises:
        TransactionUnusable: the connection is closed, of another thread or database, or in no transaction.
    """
    with translated():
        _check(connection, path)
        return work_in_part(connection, work)


def work_in_part(connection: sqlite3.Connection, work: Work[T]) -> T:
    """The result of the work; when it raises, it alone is undone and the transaction goes on.

    Raises:
        TransactionUnusable: the connection is in no transaction.
    """
    if not connection.in_transaction:
        raise TransactionUnusable(
            "the connection is in no transaction; execute BEGIN IMMEDIATE, or your change, before publishing in it"
        )
    with part(connection):
        return work(connection)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    try:
        files = {name: file for _, name, file in select(connection, CONTROL["files"])}
    except sqlite3.ProgrammingError as error:
        # Closed, or made in another thread: the driver says which.
        raise TransactionUnusable(str(error)) from error
    if not is_same_file(files["main"], path):
        raise TransactionUnusable(f"the connection is to {files['main'] or 'a database in memory'}, not to {path}")


def is_same_file(file: str | Path, path: Path) -> bool:
    """Whether both name one existing file."""
    try:
        return path.samefile(file)
    except OSError:
        return False
