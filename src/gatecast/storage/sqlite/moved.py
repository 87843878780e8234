"""A file whose log is moved to another database: no program can write to it any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from uuid import UUID

from gatecast.storage.moved import MOVED, MOVED_TO_STREAM, Blocking

_PREFIX = "gatecast_moved_to_"

_CLOSED = "gatecast_closed_"

#: Writes that only readers of this log make; an outbox keeps one position for itself.
_OF_READERS = (
    ("INSERT", "gatecast_pods", ""),
    ("INSERT", "gatecast_connections", ""),
    ("INSERT", "gatecast_cursors", "WHEN NEW.replica <> 'outbox'"),
    ("UPDATE", "gatecast_cursors", "WHEN NEW.replica <> 'outbox'"),
)


def block(connection: sqlite3.Connection, tables: Iterable[str], blocking: Blocking, told: str = MOVED) -> None:
    """Close these tables to writers, in the open transaction; the target and the run are remembered."""
    unblock(connection)
    for table in tables:
        for change in ("INSERT", "UPDATE", "DELETE"):
            _refuse(
                connection,
                f"{_PREFIX}{blocking.target.hex}_{blocking.run.hex}_{change.lower()}_{table}",
                change,
                table,
                told,
            )


def unblock(connection: sqlite3.Connection) -> None:
    """Open the tables to writers again, in the open transaction."""
    for name in _triggers(connection):
        connection.execute(f'DROP TRIGGER "{name}"')


def blocking_of(connection: sqlite3.Connection) -> Blocking | None:
    """The move that closes the tables to writers; None: they are open."""
    for name in _triggers(connection):
        target, run = name.removeprefix(_PREFIX)[:32], name.removeprefix(_PREFIX)[33:65]
        return Blocking(target=UUID(target), run=_run(run))
    return None


def close(connection: sqlite3.Connection) -> None:
    """Stop delivery from this log for good, in the open transaction."""
    for change, table, condition in _OF_READERS:
        _refuse(connection, f"{_CLOSED}{change.lower()}_{table}", change, table, MOVED_TO_STREAM, condition)


def is_closed(connection: sqlite3.Connection) -> bool:
    """Whether the log is read elsewhere."""
    return any(name.startswith(_CLOSED) for name in _names(connection))


def _refuse(connection: sqlite3.Connection, name: str, change: str, table: str, told: str, condition: str = "") -> None:
    connection.execute(
        f'CREATE TRIGGER "{name}" BEFORE {change} ON "{table}" {condition} BEGIN SELECT RAISE(ABORT, \'{told}\'); END'
    )


def _run(text: str) -> UUID:
    """The run in the name of a trigger; an earlier release named none."""
    try:
        return UUID(text)
    except ValueError:
        return UUID(int=0)


def _triggers(connection: sqlite3.Connection) -> list[str]:
    return [name for name in _names(connection) if name.startswith(_PREFIX)]


def _names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
