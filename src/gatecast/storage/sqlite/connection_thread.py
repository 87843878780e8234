"""A connection, and the one thread that uses it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeAlias, TypeVar

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.driver_errors import translated

T = TypeVar("T")

#: A piece of work for the thread: a function of the connection.
Work: TypeAlias = Callable[[sqlite3.Connection], T]


class ConnectionThread:
    """Runs pieces of work on one connection, one after another, in a thread of its own. Open it with `async with`.

    Errors of the driver become those of `gatecast.errors`.
    """

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
        """The result of work that is a transaction of its own.

        If the caller is cancelled, the work is either not begun, or runs to its end.

        Raises:
            StorageUnavailable: the thread was closed.
        """
        return await asyncio.wrap_future(self._submit(work))

    async def run_to_its_end(self, work: Work[T]) -> T:
        """The result of the work; if the caller is cancelled, the cancellation is raised once the work has ended.

        Raises:
            StorageUnavailable: the thread was closed.
        """
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
                # The connection is closed by its own thread, after all work that still waits.
                await _to_its_end(self._executor.submit(self._connection.close))
        finally:
            self._executor.shutdown(wait=False)


async def _to_its_end(work: Future[T]) -> T:
    """The result of the work, awaited to its end however often the caller is cancelled; then a cancellation is raised.

    A caller that rolls back because it was cancelled must not do so while its own statement still runs.
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
    # Retrieved, or asyncio would log that it never was.
    ended.exception()
    raise cancellation
