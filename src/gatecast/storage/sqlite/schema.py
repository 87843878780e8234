"""Applies migrations to the file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import LiteralString

from gatecast.storage.migrations import Migration, missing
from gatecast.storage.sqlite import unprefixed
from gatecast.storage.sqlite.statements import CONTROL, change, select, writing

_UP_TO_SEMICOLON = re.compile(r"[^;]*;|[^;]+")


def applied(connection: sqlite3.Connection) -> list[int]:
    """The numbers of the migrations applied to the file; empty if no release of Gatecast has migrated it."""
    if not _is_prefixed(connection):
        return unprefixed.applied(connection)
    return [number for (number,) in select(connection, CONTROL["applied_migrations"])]


def migrate(connection: sqlite3.Connection, known: Sequence[Migration]) -> list[int]:
    """The numbers of the migrations that this call applied; of processes that start together, one applies them.

    All are one transaction, so that no process finds only the beginning of a series and takes it for the work of an
    older release.

    Raises:
        SchemaTooNew: a newer release migrated the file.
    """
    with writing(connection):
        if not _is_prefixed(connection):
            earlier = unprefixed.applied(connection)
            connection.execute(CONTROL["prepare_migrations"])
            if earlier:
                unprefixed.rename(connection)
        return apply(connection, known)


def apply(connection: sqlite3.Connection, known: Sequence[Migration]) -> list[int]:
    """The same in the transaction that is open, in a file that has been migrated before."""
    pending = missing(known, applied(connection))
    for migration in pending:
        for statement in _statements(migration.text):
            connection.execute(statement)
        change(connection, CONTROL["note_migration"], migration.number, migration.name)
    return [migration.number for migration in pending]


def _is_prefixed(connection: sqlite3.Connection) -> bool:
    return bool(unprefixed.columns(connection, "gatecast_schema_migrations"))


def _statements(text: LiteralString) -> Iterator[str]:
    """The statements of a script, to run one by one: `executescript` would commit the open transaction first."""
    statement = ""
    for piece in _UP_TO_SEMICOLON.findall(text):
        statement += piece
        # Not complete if the semicolon is inside a string, a comment or a trigger.
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement
