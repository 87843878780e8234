"""Many callers ask for one thing each, and one statement answers all who asked while the one before it ran."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from gatecast.containment import in_halves
from gatecast.errors import GatecastError

T = TypeVar("T")
R = TypeVar("R")

#: Most questions in one statement.
_MOST = 200

#: So many statements run at once: while one waits for a database that has gone without a word, another can ask anew.
_AT_ONCE = 2


class Gathered(Generic[T, R]):
    """Asks `work` for many items at once, without a timer: who asks alone is answered at once.

    A statement begins after everybody whose question it carries has asked, so each sees what was committed before. One
    item that makes the statement fail fails alone (`in_halves`).
    """

    def __init__(self, name: str, work: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._name = name
        self._work = work
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, item: T) -> R:
        """What `work` makes of this item.

        Raises:
            GatecastError: it failed for this item, or for all.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if len(self._running) < _AT_ONCE:
            task = asyncio.create_task(self._run(), name=self._name)
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    async def _run(self) -> None:
        """Answer until nobody waits."""
        while batch := self._take():
            await self._answer(batch)

    async def _answer(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        """Run one statement; it is given up once nobody waits for it any more."""
        asking = asyncio.ensure_future(in_halves([item for item, _ in batch], self._work))  # noqa: RUF006 - waited for
        left = len(batch)

        def one_less(_answer: asyncio.Future[R]) -> None:
            nonlocal left
            left -= 1
            if not left:
                asking.cancel()

        for _, waiting in batch:
            waiting.add_done_callback(one_less)
        try:
            await asyncio.wait([asking])
        except asyncio.CancelledError:
            for _, waiting in batch:
                waiting.cancel()
            raise
        if not asking.cancelled():
            _settle(batch, asking)

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        """The next questions that are still asked."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < _MOST:
            item, waiting = self._waiting.popleft()
            if not waiting.done():
                batch.append((item, waiting))
        return batch


def _settle(batch: list[tuple[T, asyncio.Future[R]]], asked: asyncio.Future[Sequence[R | GatecastError]]) -> None:
    """Give everybody who still waits the answer."""
    error = asked.exception()
    answers = [error] * len(batch) if error is not None else asked.result()
    for (_, waiting), answer in zip(batch, answers, strict=True):
        if waiting.done():
            continue
        if isinstance(answer, BaseException):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)
