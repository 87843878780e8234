"""Files of releases before migration 18, whose tables had no prefix: told from others, and renamed in place."""

from __future__ import annotations

import re
import sqlite3

from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.statements import CONTROL, change, select

_QUERIES = Queries("gatecast.storage.sqlite", "unprefixed.sql")

#: What every table, index and trigger of ours begins with.
PREFIX = "gatecast_"

#: The first migration that such a release does not know.
_NUMBER = 18

_TABLES = (
    "epoch",
    "gateway_streams",
    "forgotten_logs",
    "events",
    "cursors",
    "pods",
    "connections",
    "outcomes",
    "passages",
)

#: Of its table of migrations: other programs have one of that name, with other columns.
_COLUMNS = ["applied_at", "name", "number"]

_NAME = re.compile(r"\b(INDEX|TRIGGER) (?=\w)")


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table, by name; none: there is no such table."""
    return [name for (name,) in select(connection, CONTROL["columns"], table)]


def applied(connection: sqlite3.Connection) -> list[int]:
    """The migrations that a release without prefixes has applied; none: it was not here."""
    if columns(connection, "schema_migrations") != _COLUMNS or not columns(connection, "epoch"):
        return []
    return [number for (number,) in select(connection, _QUERIES["migrations"])]


def rename(connection: sqlite3.Connection) -> None:
    """Give everything of ours the prefix, keep what it holds, and make the earlier release refuse the file."""
    for table in _TABLES:
        if columns(connection, table):
            connection.execute(f"ALTER TABLE {table} RENAME TO {PREFIX}{table}")
    for kind, name, text in select(connection, _QUERIES["indexes_and_triggers"]):
        connection.execute(f"DROP {kind} {name}")
        connection.execute(_NAME.sub(rf"\1 {PREFIX}", text, count=1))
    change(connection, _QUERIES["copy_migrations"])
    change(connection, _QUERIES["refuse_earlier_releases"], _NUMBER)
