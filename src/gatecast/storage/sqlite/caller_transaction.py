"""Works in a transaction that the caller has opened on a `sqlite3` connection of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from gatecast.errors import TransactionUnusable
from gatecast.events import Event
from gatecast.storage.contract import Receipt
from gatecast.storage.sqlite import history
from gatecast.storage.sqlite.connection import system_clock
from gatecast.storage.sqlite.connection_thread import Work
from gatecast.storage.sqlite.driver_errors import translated
from gatecast.storage.sqlite.history_file import HistoryFile
from gatecast.storage.sqlite.opened_file import OpenedFile
from gatecast.storage.sqlite.publishing import append_one_group
from gatecast.storage.sqlite.statements import CONTROL, part, select
from gatecast.storage.sqlite.values import to_text

T = TypeVar("T")


def work_inside(connection: sqlite3.Connection, path: Path, work: Work[T]) -> T:
    """The result of work that is a part of the connection's open transaction.

    Runs in the caller's thread, because only that may use the connection.

    Raises:
        TransactionUnusable: the connection is closed, of another thread or database, or has no open transaction.
    """
    with translated():
        _check(connection, path)
        return work_in_part(connection, work)


def work_in_part(connection: sqlite3.Connection, work: Work[T]) -> T:
    """The result of work that is a part of the open transaction: if it raises, only the part is undone.

    Raises:
        TransactionUnusable: the connection has no open transaction.
    """
    if not connection.in_transaction:
        raise TransactionUnusable(
            "the connection is in no transaction; execute BEGIN IMMEDIATE, or your change, before publishing in it"
        )
    with part(connection):
        return work(connection)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    file = _file_of(connection)
    if not is_same_file(file, path):
        raise TransactionUnusable(f"the connection is to {file or 'a database in memory'}, not to {path}")


def _file_of(connection: sqlite3.Connection) -> str:
    """The path of the file that a connection is to; empty for a database in memory."""
    try:
        files = {name: file for _, name, file in select(connection, CONTROL["files"])}
    except sqlite3.ProgrammingError as error:
        # The connection is closed, or was made in another thread: the driver says which.
        raise TransactionUnusable(str(error)) from error
    return str(files["main"])


async def publish_on(connection: sqlite3.Connection, events: Sequence[Event]) -> tuple[Receipt, ...]:
    """A receipt for each event, appended in the open transaction of a connection, to the database in its file.

    Raises:
        TransactionUnusable: the connection is closed, of another thread, has no open transaction, or is to no file.
        UnknownGateway: a gateway is not registered; nothing was appended.
    """
    with translated():
        if not (file := _file_of(connection)):
            raise TransactionUnusable("the connection is to a database in memory, which no pod can read")
        moment = system_clock()

        def work(connection: sqlite3.Connection) -> tuple[Receipt, ...]:
            history.go_on(connection, HistoryFile(OpenedFile(Path(file))), moment)
            return append_one_group(connection, events, to_text(moment))

        return work_in_part(connection, work)


def is_outbox(connection: sqlite3.Connection) -> bool:
    """Whether the connection's database is an outbox."""
    with translated():
        return bool(select(connection, CONTROL["is_outbox"]))


def is_same_file(file: str | Path, path: Path) -> bool:
    """Whether both paths lead to the same existing file."""
    try:
        return path.samefile(file)
    except OSError:
        return False
