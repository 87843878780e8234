"""Connections to one server that are used again and again.

Taking one and giving it back costs no task, no timer and no turn of the event loop while one is idle: the driver's own
pool needs longer for both than a short statement takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import asyncpg

#: How long an interrupted statement may take to end, in seconds, before its connection is given up.
RELEASE_TIME_LIMIT = 1.0

#: How long closing may take, in seconds.
GOODBYE_TIME_LIMIT = 2.0

#: A connection that is idle for this many seconds is closed.
LONGEST_IDLE = 300.0


class ConnectionPool:
    """At most `size` connections, opened when they are first needed; use it with `async with`.

    Nothing is reset when one comes back: our statements leave nothing to reset.
    """

    def __init__(self, dial: Callable[[], Awaitable[asyncpg.Connection[Any]]], *, size: int) -> None:
        self._dial = dial
        self._size = size
        self._places = asyncio.Semaphore(size)
        #: The last used one is taken first, so that unneeded ones grow old.
        self._idle: list[tuple[asyncpg.Connection[Any], float]] = []
        self._in_use: set[asyncpg.Connection[Any]] = set()
        #: In use, and closed when they come back.
        self._expired: set[asyncpg.Connection[Any]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._idle) + len(self._in_use)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is in use, then close everything politely, or after 2 seconds abruptly.

        A database that hangs must not keep the pod from ending.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            async with asyncio.timeout(GOODBYE_TIME_LIMIT):
                for _ in range(self._size):
                    await self._places.acquire()
                await asyncio.gather(*(connection.close() for connection, _ in self._idle))
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            # A task that still uses a connection gets the error.
            pass
        finally:
            for connection in [*self._in_use, *(each for each, _ in self._idle)]:
                connection.terminate()

    async def acquire(self, time_limit: float) -> asyncpg.Connection[Any]:
        """A connection for the caller alone, until it is given back with `release`.

        Raises:
            TimeoutError: within this time, in seconds, none was given back, or could be opened.
            asyncpg.InterfaceError: the pool is closed.
        """
        # The first caller to wait is served first, even if a connection is idle by now.
        if not self._places.locked() and (connection := self._take_idle()) is not None:
            await self._places.acquire()
            self._in_use.add(connection)
            return connection
        async with asyncio.timeout(time_limit):
            await self._places.acquire()
            try:
                connection = self._take_idle() or await self._open()
            except BaseException:
                self._places.release()
                raise
        self._in_use.add(connection)
        return connection

    def _take_idle(self) -> asyncpg.Connection[Any] | None:
        while self._idle and not self._closed:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            # The driver has noticed that it was lost; this cleans up after it.
            connection.terminate()
        return None

    async def _open(self) -> asyncpg.Connection[Any]:
        self._check_open()
        connection = await self._dial()
        if self._closed:
            connection.terminate()
            self._check_open()
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise asyncpg.InterfaceError("the pool of connections is closed")

    async def release(self, connection: asyncpg.Connection[Any]) -> None:
        """Give a connection back; one that was lost, expired or left in a transaction is closed.

        Where a statement was interrupted, waits for its end, but not long. Raises no `TimeoutError`, which would hide
        the error that interrupted the statement.
        """
        if not _is_interrupted(connection):
            # No await: nothing comes between the statement and this.
            self._put_back(connection)
            return
        ending = asyncio.create_task(self._end_interrupted(connection), name="interrupted-statement")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        # A caller that is cancelled meanwhile leaves it to itself.
        await asyncio.shield(ending)

    async def _end_interrupted(self, connection: asyncpg.Connection[Any]) -> None:
        try:
            async with asyncio.timeout(RELEASE_TIME_LIMIT):
                # The driver lets the interrupted statement end first.
                await connection.execute("SELECT 1")
        except TimeoutError:
            # Not even the cancellation was answered: the network is cut silently. The idle connections are cut, too,
            # and each would otherwise cost a caller a time limit.
            connection.terminate()
            self._drop_idle()
        except Exception:  # noqa: BLE001 - whatever it is: the caller has the error that came before it
            connection.terminate()
        finally:
            self._put_back(connection)

    def _put_back(self, connection: asyncpg.Connection[Any]) -> None:
        self._in_use.discard(connection)
        if connection.is_closed() or connection in self._expired or _is_in_transaction(connection):
            self._expired.discard(connection)
            # Also where it is closed: the driver cleans up.
            connection.terminate()
        else:
            loop = asyncio.get_running_loop()
            self._idle.append((connection, loop.time()))
            if self._timer is None and not self._closed:
                self._timer = loop.call_later(LONGEST_IDLE, self._close_unused)
        self._places.release()

    def expire(self) -> None:
        """Reopen every connection: idle ones are closed now, and those in use when they are released."""
        self._drop_idle()
        self._expired.update(self._in_use)

    def _drop_idle(self) -> None:
        dropped, self._idle = self._idle, []
        for connection, _ in dropped:
            # Abruptly: the polite way waits for an answer.
            with suppress(OSError):
                connection.terminate()

    def _close_unused(self) -> None:
        loop = asyncio.get_running_loop()
        fresh = [each for each in self._idle if loop.time() - each[1] < LONGEST_IDLE]
        unused = [connection for connection, since in self._idle if loop.time() - since >= LONGEST_IDLE]
        self._idle = fresh
        for connection in unused:
            connection.terminate()
        self._timer = loop.call_later(LONGEST_IDLE, self._close_unused) if fresh else None


def _is_in_transaction(connection: asyncpg.Connection[Any]) -> bool:
    """Whether the server, or the driver, is in a transaction.

    Where a BEGIN was interrupted, only the driver is: its next transaction would be a savepoint of that one.
    """
    driver: Any = connection
    return connection.is_in_transaction() or driver._top_xact is not None  # noqa: SLF001 - nothing public tells


def _is_interrupted(connection: asyncpg.Connection[Any]) -> bool:
    """Whether a statement was cancelled, or took too long, and has not ended yet."""
    driver: Any = connection
    return not connection.is_closed() and driver._protocol._is_cancelling()  # noqa: SLF001 - nothing public tells
