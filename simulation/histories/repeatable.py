"""Makes a run of the product repeat exactly: one thread, one clock, and randomness that a seed determines."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

from gatecast.storage.sqlite.connection_thread import ConnectionThread, Work
from gatecast.storage.sqlite.database import SqliteDatabase
from gatecast.testing.virtual_time import VirtualTimeLoop
from gatecast.waiting import reseed

T = TypeVar("T")

_BEGINNING = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_NANOSECONDS = 10**9


class LoopClock:
    """The clock of the running event loop, with a date."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return _BEGINNING + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Seconds since the loop began."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Return when this many seconds have passed."""
        await asyncio.sleep(seconds)

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return int(self.now().timestamp() * _NANOSECONDS)


class _NumberedTask(asyncio.Task[Any]):
    """Stands in sets by its number, so that they have an order that repeats."""

    def __init__(self, work: Coroutine[Any, Any, Any], *, number: int, **options: Any) -> None:  # noqa: ANN401
        self._number = number
        super().__init__(work, **options)

    def __hash__(self) -> int:
        return self._number


class OneThreadLoop(VirtualTimeLoop):
    """Virtual time, in which work for other threads is done at once."""

    def __init__(self) -> None:
        super().__init__()
        numbers = itertools.count()
        self.set_task_factory(
            lambda loop, work, **options: _NumberedTask(work, number=next(numbers), loop=loop, **options)
        )

    def run_in_executor(  # type: ignore[override]
        self,
        executor: object,
        func: Callable[..., T],
        *args: Any,  # noqa: ANN401 - asyncio's own
    ) -> asyncio.Future[T]:
        """The result of the work."""
        _ = executor
        ended = self.create_future()
        try:
            ended.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is handed on
            ended.set_exception(error)
        return ended

    def _write_to_self(self) -> None:
        """There is no other thread that could wake this one."""


class _InlineExecutor:
    """Does work at once, in the thread of its caller."""

    def __init__(self, **_options: object) -> None:
        pass

    def submit(self, work: Callable[..., T], *arguments: object) -> Future[T]:
        ended: Future[T] = Future()
        try:
            ended.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - it is handed on
            ended.set_exception(error)
        return ended

    def shutdown(self, **_options: object) -> None:
        pass


async def _asked(thread: ConnectionThread, work: Work[T]) -> T:
    """What the database says, which is known at once; others go on before its caller does."""
    answer = thread._submit(work)  # noqa: SLF001 - as below
    await asyncio.sleep(0)
    return answer.result()


async def _inline(work: Callable[..., T], *arguments: object, **_options: object) -> T:
    return work(*arguments)


@contextmanager
def _one_writer() -> Iterator[None]:
    """Pods of one process wait for each other outside of SQLite: nothing else could go on inside."""
    begin = SqliteDatabase.__init__
    locks: dict[Path, asyncio.Lock] = {}

    def begin_with_common_lock(database: SqliteDatabase, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        begin(database, *arguments, **options)
        database._lock = locks.setdefault(database.path, database._lock)  # noqa: SLF001 - nothing else leads there

    with patch.object(SqliteDatabase, "__init__", begin_with_common_lock):
        yield


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Let everything inside the block depend on the seed alone."""
    source = random.Random(seed)  # noqa: S311 - repeats, guards nothing
    reseed(seed)
    random.seed(seed)
    with (
        patch("os.urandom", source.randbytes),
        patch("random._urandom", source.randbytes),
        patch("anyio.to_thread.run_sync", _inline),
        patch("gatecast.storage.sqlite.connection_thread.ThreadPoolExecutor", _InlineExecutor),
        patch.object(ConnectionThread, "run", _asked),
        patch.object(ConnectionThread, "run_to_its_end", _asked),
        patch("gatecast.controlplane.transactions.clock.time", SimpleNamespace(time_ns=LoopClock().time_ns)),
        patch("gatecast.storage.sqlite.connection.datetime", SimpleNamespace(now=lambda _zone: LoopClock().now())),
        _one_writer(),
    ):
        yield


def run_repeatably(seed: int, work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; the same seed does the same, as long as `PYTHONHASHSEED` is the same."""
    with repeatable(seed), asyncio.Runner(loop_factory=OneThreadLoop) as runner:
        return runner.run(work)
