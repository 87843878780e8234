"""Applies migrations to the file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import LiteralString

from gatecast.storage.migrations import Migration, missing
from gatecast.storage.sqlite.statements import CONTROL, change, select, writing

_UP_TO_SEMICOLON = re.compile(r"[^;]*;|[^;]+")


def migrate(connection: sqlite3.Connection, known: Sequence[Migration]) -> list[int]:
    """Apply what is missing, each migration in a transaction of its own, and return the numbers.

    What is missing is looked up anew under each write lock: pods that start at once take turns, and none repeats
    what another one did.
    """
    applied: list[int] = []
    while (number := _apply_next(connection, known)) is not None:
        applied.append(number)
    return applied


def _apply_next(connection: sqlite3.Connection, known: Sequence[Migration]) -> int | None:
    with writing(connection):
        connection.execute(CONTROL["prepare_migrations"])
        pending = missing(known, [number for (number,) in select(connection, CONTROL["applied_migrations"])])
        if not pending:
            return None
        for statement in _statements(pending[0].text):
            connection.execute(statement)
        change(connection, CONTROL["note_migration"], pending[0].number, pending[0].name)
        return pending[0].number


def _statements(text: LiteralString) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit before it begins."""
    statement = ""
    for piece in _UP_TO_SEMICOLON.findall(text):
        statement += piece
        # Not yet, when the semicolon stands in a string, a comment or a trigger.
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement
