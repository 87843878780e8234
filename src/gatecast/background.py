"""A task that must not end by itself, and a report to its owner when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn, TypeAlias

from gatecast.telemetry import get_logger

#: Called once with the error of a background task that died; must not block or raise.
FailureListener: TypeAlias = Callable[[BaseException], None]

#: A task that still runs after this many seconds has lost its cancellation: some libraries swallow it.
_CANCEL_TIME_LIMIT = 1.0

_logger = get_logger("background")


class BackgroundTask:
    """Runs until it is stopped. Its work handles outages itself; any other error ends the task and is reported."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._failure: BaseException | None = None
        self._told: FailureListener = _ignore

    def on_failure(self, told: FailureListener) -> None:
        """Call it with the error when the task dies."""
        self._told = told
        if self._failure is not None:
            told(self._failure)

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Begin."""
        self._task = asyncio.create_task(work, name=name)
        self._task.add_done_callback(self._note_end)

    async def stop(self) -> None:
        """End it, and return when it has ended."""
        self._stopping = True
        while self._task is not None and not self._task.done():
            self._task.cancel()
            # Waited for and not awaited: a cancellation raised here is then our own.
            await asyncio.wait([self._task], timeout=_CANCEL_TIME_LIMIT)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if self._stopping:
            return
        self._failure = reason_of_end(task)
        _logger.error("background-task-died", task=task.get_name(), exc_info=self._failure)
        self._told(self._failure)


def reason_of_end(task: asyncio.Task[None]) -> BaseException:
    """The reason why a task that must run on has ended."""
    if task.cancelled():
        return RuntimeError(f"{task.get_name()} was cancelled")
    return task.exception() or RuntimeError(f"{task.get_name()} ended by itself")


async def run_together(work: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> NoReturn:
    """Run each of these in a task of its name until one ends, in any way; then end the others.

    A task group ignores a task that returns or is cancelled.

    Raises:
        Exception: the error that ended one; a RuntimeError if it returned or was cancelled.
    """
    tasks = [asyncio.create_task(each(), name=name) for name, each in work.items()]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        raise reason_of_end(ended.pop())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ignore(_failure: BaseException) -> None:
    """No listener is registered."""
