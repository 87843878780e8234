"""Runs statements on a connection, in the thread that owns it. Placeholders are `$1`, `$2` …."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any, LiteralString, NamedTuple, TypeAlias

from gatecast.storage.contract import Row
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.values import bind

CONTROL = Queries("gatecast.storage.sqlite", "database.sql")

#: One row, by column number.
Columns: TypeAlias = tuple[Any, ...]


_PLACEHOLDER = re.compile(r"\$(\d+)")

#: A comment may name a placeholder. And SQLite has no row locks: its one writer has locked every row.
_LEFT_OUT = re.compile(r"--[^\n]*|FOR (NO KEY UPDATE|KEY SHARE)( SKIP LOCKED)?")


class _Portable(NamedTuple):
    """A statement as SQLite runs it."""

    #: With `?` for each placeholder: to look up a name for each argument takes longer than to store the row.
    query: LiteralString
    #: The argument of each `?`.
    order: Sequence[int]


@lru_cache(maxsize=1_000)
def _portable(query: LiteralString) -> _Portable:
    bare = _LEFT_OUT.sub("", query)
    order = [int(number) - 1 for number in _PLACEHOLDER.findall(bare)]
    return _Portable(_PLACEHOLDER.sub("?", bare), order)


@contextmanager
def _ran(connection: sqlite3.Connection, query: LiteralString, arguments: Iterable[object]) -> Iterator[sqlite3.Cursor]:
    statement = _portable(query)
    with closing(connection.cursor()) as cursor:
        # A caller's connection may turn its rows into another type.
        cursor.row_factory = None
        values = bind(arguments)
        cursor.execute(statement.query, [values[number] for number in statement.order])
        yield cursor


def select(connection: sqlite3.Connection, query: LiteralString, *arguments: object) -> list[Columns]:
    """Every row of the result, by column number."""
    with _ran(connection, query, arguments) as cursor:
        return cursor.fetchall()


def select_each(
    connection: sqlite3.Connection, query: LiteralString, *arguments: object
) -> Generator[Columns, None, None]:
    """The rows of the result, by column number, read one by one; close the generator to stop early."""
    with _ran(connection, query, arguments) as cursor:
        yield from cursor


def select_named(connection: sqlite3.Connection, query: LiteralString, *arguments: object) -> list[Row]:
    """Every row of the result, by column name."""
    with _ran(connection, query, arguments) as cursor:
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def change(connection: sqlite3.Connection, query: LiteralString, *arguments: object) -> int:
    """How many rows the statement changed."""
    with _ran(connection, query, arguments) as cursor:
        # A statement with RETURNING is complete only once its rows are read.
        cursor.fetchall()
        return max(cursor.rowcount, 0)


def change_each(connection: sqlite3.Connection, query: LiteralString, rows: Iterable[Sequence[object]]) -> None:
    """Run the statement once for each row of arguments, which are as SQLite stores them: one for each placeholder."""
    statement = _portable(query)
    if statement.order != list(range(len(statement.order))):
        rows = ([row[number] for number in statement.order] for row in rows)
    with closing(connection.cursor()) as cursor:
        cursor.executemany(statement.query, rows)


def as_list(values: Iterable[object]) -> str:
    """Many values as one argument for `json_each`: a JSON list."""
    return json.dumps(list(values), ensure_ascii=False)


def begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that holds the write lock from the start."""
    connection.execute(CONTROL["begin_writing"])


def commit(connection: sqlite3.Connection) -> None:
    """Commit the transaction to disk; a commit that fails has changed nothing."""
    connection.execute(CONTROL["commit"])


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction and undo its changes; do nothing if SQLite has already done so after an error."""
    if connection.in_transaction:
        connection.execute(CONTROL["roll_back"])


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """The block as one writing transaction, which is rolled back if the block raises."""
    begin(connection)
    try:
        yield
        commit(connection)
    except BaseException:
        roll_back(connection)
        raise


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """The block as one reading transaction: everything in it is read from the same instant."""
    connection.execute(CONTROL["begin_reading"])
    try:
        yield
    finally:
        roll_back(connection)


@contextmanager
def part(connection: sqlite3.Connection) -> Iterator[None]:
    """The block as a part of the open transaction: if it raises, only the part is undone."""
    connection.execute(CONTROL["begin_part"])
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute(CONTROL["undo_part"])
            connection.execute(CONTROL["keep_part"])
        raise
    connection.execute(CONTROL["keep_part"])
