"""A file whose log was moved to another database: no program can write to it any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from uuid import UUID

#: The error for every attempt to open it.
MOVED = "its log was moved to another database; start pods with the GATECAST_DATABASE of that one"

_PREFIX = "gatecast_moved_to_"


def block(connection: sqlite3.Connection, tables: Iterable[str], target: UUID) -> None:
    """Keep everybody from changing these tables, in the transaction that is open; `target` is remembered."""
    for table in tables:
        for change in ("INSERT", "UPDATE", "DELETE"):
            connection.execute(
                f'CREATE TRIGGER "{_PREFIX}{target.hex}_{change.lower()}_{table}" BEFORE {change} ON "{table}" '
                f"BEGIN SELECT RAISE(ABORT, '{MOVED}'); END"
            )


def unblock(connection: sqlite3.Connection) -> None:
    """Let everybody change them again, in the transaction that is open."""
    for name in _triggers(connection):
        connection.execute(f'DROP TRIGGER "{name}"')


def target_of(connection: sqlite3.Connection) -> UUID | None:
    """The database that the file is moved to, which closes it to writers; None: it is open."""
    return next((UUID(name.removeprefix(_PREFIX)[:32]) for name in _triggers(connection)), None)


def _triggers(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    return [name for (name,) in found if name.startswith(_PREFIX)]
