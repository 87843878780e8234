"""Recognizes files of releases before migration 18, whose tables had no prefix, and renames the tables in place."""

from __future__ import annotations

import re
import sqlite3

from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.statements import CONTROL, change, select

_QUERIES = Queries("gatecast.storage.sqlite", "unprefixed.sql")

#: The names of all our tables, indexes and triggers begin with this.
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

#: The columns of their table of migrations: other programs have a table of that name, with other columns.
_COLUMNS = ["applied_at", "name", "number"]

_NAME = re.compile(r"\b(INDEX|TRIGGER) (?=\w)")


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The names of a table's columns, sorted; empty if there is no such table."""
    return [name for (name,) in select(connection, CONTROL["columns"], table)]


def applied(connection: sqlite3.Connection) -> list[int]:
    """The numbers of the migrations that a release without prefixes has applied; empty if none has done so."""
    if columns(connection, "schema_migrations") != _COLUMNS or not columns(connection, "epoch"):
        return []
    return [number for (number,) in select(connection, _QUERIES["migrations"])]


def rename(connection: sqlite3.Connection) -> None:
    """Give our tables, indexes and triggers the prefix, keep their rows, and make earlier releases refuse the file."""
    for table in _TABLES:
        if columns(connection, table):
            connection.execute(f"ALTER TABLE {table} RENAME TO {PREFIX}{table}")
    for kind, name, text in select(connection, _QUERIES["indexes_and_triggers"]):
        connection.execute(f"DROP {kind} {name}")
        connection.execute(_NAME.sub(rf"\1 {PREFIX}", text, count=1))
    change(connection, _QUERIES["copy_migrations"])
    change(connection, _QUERIES["refuse_earlier_releases"], _NUMBER)
