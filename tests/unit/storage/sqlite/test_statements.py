"""Portable statements run on SQLite: arguments by number, comments and row locks left out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from gatecast.storage.sqlite.statements import change_each, select


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database in memory with one table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a, b)")
        yield connection


def test_arguments_go_where_their_numbers_stand(connection: sqlite3.Connection) -> None:
    """In any order, more than once, also from ten on; a comment may name them."""
    query = """
        -- Of $3 nothing is taken before $1.
        SELECT $2, $1, $2, $10, '$[0]' -- $7 neither
    """
    assert select(connection, query, *range(1, 11)) == [(2, 1, 2, 10, "$[0]")]


def test_arguments_that_no_placeholder_stands_for_are_left_out(connection: sqlite3.Connection) -> None:
    assert select(connection, "SELECT $1", 1, 2) == [(1,)]


def test_a_row_lock_is_left_out(connection: sqlite3.Connection) -> None:
    for lock in ("FOR NO KEY UPDATE", "FOR NO KEY UPDATE SKIP LOCKED"):
        assert select(connection, f"SELECT a FROM t WHERE a = $1 {lock}", 1) == []


def test_each_row_of_arguments_is_one_run(connection: sqlite3.Connection) -> None:
    change_each(connection, "INSERT INTO t (a, b) VALUES ($2, $1)", [(1, 2), (3, 4)])
    assert select(connection, "SELECT a, b FROM t") == [(2, 1), (4, 3)]
