"""Stands between the code and both drivers: fails one statement, in any task, and remembers what ran."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any
from unittest.mock import patch

import asyncpg

#: What the errors say, and no answer may repeat.
SECRET = "a secret"  # noqa: S105 - nothing that opens anything

#: So many turns of the event loop without a statement are quiet.
_TURNS = 40


@cache
def plain(query: str) -> str:
    """A statement as both databases run it: without comments, row locks and the numbers of its arguments."""
    return re.sub(r"\$\d+", "?", re.sub(r"--[^\n]*|FOR (NO KEY UPDATE|KEY SHARE)( SKIP LOCKED)?", "", query)).strip()


class FailingStatements:
    """Fails a statement, in turn with an SQLSTATE that nobody knows and with an exception that nobody foresaw."""

    def __init__(self) -> None:
        #: Every statement that ran, plain.
        self.ran: set[str] = set()
        #: The same in order, with the task that asked for it; on PostgreSQL only, where no thread stands between them.
        self.order: list[tuple[asyncio.Task[object] | None, str]] = []
        #: How often the driver has asked what types are, on PostgreSQL; it need not for any statement of ours.
        self.types_asked_for = 0
        #: How often the present one has failed.
        self.failed = 0
        self._failing = ""
        self._asked = 0
        #: The statements that run now; a list, because threads change it too.
        self._running: list[None] = []

    async def quiet(self) -> None:
        """Return when nothing has been asked of the databases for a while, in which this event loop had many turns.

        What is noted once an answer has left is noted then, however busy the machine is.
        """
        turns, asked = 0, self._asked
        while turns < _TURNS:
            await asyncio.sleep(0.001)
            turns = turns + 1 if self._asked == asked and not self._running else 0
            asked = self._asked

    def fail(self, query: str, *, unforeseen: bool = False) -> None:
        """Fail this statement from now on, and no other; with `unforeseen` the exception comes first."""
        self._failing, self.failed = plain(query), int(unforeseen)

    def stop(self) -> None:
        """Fail nothing."""
        self._failing = ""

    def meet(self, query: str, unknown_state: Exception) -> None:
        """Raise if the statement that is about to run is the one."""
        self._asked += 1
        self.ran.add(plain(query))
        with suppress(RuntimeError):
            self.order.append((asyncio.current_task(), plain(query)))
        if self._failing and plain(query) == self._failing:
            self.failed += 1
            raise unknown_state if self.failed % 2 else ZeroDivisionError(SECRET)

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self._running.append(None)
        try:
            yield
        finally:
            self._running.pop()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While this is open, every statement of both drivers passes here."""
        with ExitStack() as stack:
            self._install_postgres(stack)
            self._install_sqlite(stack)
            yield

    def _install_postgres(self, stack: ExitStack) -> None:
        driver: Any = asyncpg.Connection
        execute_prepared, execute, faults = driver._execute, driver.execute, self  # noqa: SLF001 - both ways lead there
        ask_for_types = driver._introspect_types  # noqa: SLF001 - what statements lead to, too

        async def prepared(self: Any, query: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
            faults.meet(query, _unknown_to_postgres())
            with faults._in_flight():
                return await execute_prepared(self, query, *arguments, **options)

        async def simple(self: Any, query: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
            if not arguments:
                faults.meet(query, _unknown_to_postgres())
            with faults._in_flight():
                return await execute(self, query, *arguments, **options)

        async def asking(self: Any, *arguments: Any) -> Any:  # noqa: ANN401 - the driver's own
            faults.types_asked_for += 1
            return await ask_for_types(self, *arguments)

        stack.enter_context(patch.object(asyncpg.Connection, "_introspect_types", asking))
        stack.enter_context(patch.object(asyncpg.Connection, "_execute", prepared))
        stack.enter_context(patch.object(asyncpg.Connection, "execute", simple))

    def _install_sqlite(self, stack: ExitStack) -> None:
        connect, faults = sqlite3.connect, self

        class Cursor(sqlite3.Cursor):
            def execute(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401 - the driver's own
                faults.meet(query, _unknown_to_sqlite())
                with faults._in_flight():
                    return super().execute(query, *arguments)

            def executemany(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401 - the driver's own
                faults.meet(query, _unknown_to_sqlite())
                with faults._in_flight():
                    return super().executemany(query, *arguments)

        class Faulty(sqlite3.Connection):
            def cursor(self, *_arguments: Any) -> Any:  # noqa: ANN401 - the driver's own
                return super().cursor(Cursor)

            def execute(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401 - the driver's own
                return self.cursor().execute(query, *arguments)

        def connected(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
            return connect(*arguments, **options, factory=Faulty)

        stack.enter_context(patch.object(sqlite3, "connect", connected))


def _unknown_to_postgres() -> Exception:
    error: Exception = asyncpg.PostgresError.new({"C": "ZZ999", "S": "ERROR", "M": SECRET})
    return error


def _unknown_to_sqlite() -> Exception:
    error = sqlite3.OperationalError(SECRET)
    error.sqlite_errorcode = 99
    return error
