"""The task in which a wake-up listens, and who is told when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gatecast.telemetry import get_logger
from gatecast.wakeup.contract import FailureListener

_logger = get_logger("wakeup")


class BackgroundTask:
    """Runs until it is stopped. Outages are its work's business; whatever else ends it is a mistake that is told."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._failure: BaseException | None = None
        self._told: FailureListener = _ignore

    def on_failure(self, told: FailureListener) -> None:
        """Tell it why the task has died, once it has."""
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
        if self._task is not None:
            self._task.cancel()
            # Waited for and not awaited: a cancellation that comes out of here is then our own.
            await asyncio.wait([self._task])

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if self._stopping:
            return
        self._failure = reason_of_end(task)
        _logger.error("background-task-died", task=task.get_name(), exc_info=self._failure)
        self._told(self._failure)


def reason_of_end(task: asyncio.Task[None]) -> BaseException:
    """Why a task that should run on has ended."""
    if task.cancelled():
        return RuntimeError(f"{task.get_name()} was cancelled")
    return task.exception() or RuntimeError(f"{task.get_name()} ended by itself")


def _ignore(_failure: BaseException) -> None:
    """Nobody asked to be told."""
