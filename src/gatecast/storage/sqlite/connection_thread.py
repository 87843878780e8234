"""A connection with the one thread that may use it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeAlias, TypeVar

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.driver_errors import translated

T = TypeVar("T")

#: A piece of work for the thread.
Work: TypeAlias = Callable[[sqlite3.Connection], T]


class ConnectionThread:
    """Runs work on one connection, one after the other, in a thread of its own. Opened with `async with`."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        try:
            await _to_its_end(self._executor.submit(self._open))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._close()

    async def run(self, work: Work[T]) -> T:
        """The result of the work, which must be a transaction of its own.

        When the waiting is cancelled, the work is either not done at all or done to its end.
        """
        return await asyncio.wrap_future(self._submit(work))

    async def run_to_its_end(self, work: Work[T]) -> T:
        """The result of the work; when the waiting is cancelled, that shows only after the work has ended."""
        return await _to_its_end(self._submit(work))

    def _submit(self, work: Work[T]) -> Future[T]:
        if self._closed:
            raise StorageUnavailable("it was closed")
        return self._executor.submit(self._work, work)

    def _work(self, work: Work[T]) -> T:
        assert self._connection is not None  # noqa: S101 - work is submitted only while it is open
        with translated():
            return work(self._connection)

    def _open(self) -> None:
        with translated():
            self._connection = self._connect()

    async def _close(self) -> None:
        self._closed = True
        try:
            if self._connection is not None:
                # A connection is closed by its own thread, behind all work that is still waiting.
                await _to_its_end(self._executor.submit(self._connection.close))
        finally:
            self._executor.shutdown(wait=False)


async def _to_its_end(work: Future[T]) -> T:
    """Wait for the work however often the waiting is cancelled; the cancellation is raised afterwards.

    Whoever rolls back because it was cancelled must not do so while a statement of its own still runs.
    """
    ended = asyncio.wrap_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is None:
        return ended.result()
    # Looked at, so that nobody reports it as never retrieved.
    ended.exception()
    raise cancellation
