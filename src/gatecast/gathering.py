"""Combines questions: one statement answers all callers that asked while the previous statement ran."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from gatecast.containment import in_halves
from gatecast.errors import GatecastError

T = TypeVar("T")
R = TypeVar("R")

#: Most questions in one statement.
_MOST = 200

#: Longest time that a statement keeps the next one waiting, which carries all questions asked meanwhile; in seconds.
_LATE = 0.1

#: Most statements at once: while one waits for a database that silently vanished, another can ask anew.
_AT_ONCE = 2


@dataclass(slots=True, eq=False)
class _Statement(Generic[R]):
    """One statement, which runs for as long as a caller waits for it."""

    answers: asyncio.Future[Sequence[R | GatecastError]]
    callers: int

    def leave(self) -> None:
        """A caller waits no longer."""
        self.callers -= 1
        if not self.callers:
            self.answers.cancel()


@dataclass(slots=True, eq=False)
class _Question(Generic[T, R]):
    """One item, and the future for its answer."""

    item: T
    answer: asyncio.Future[R]
    #: The statement that carries it; None before it has begun.
    statement: _Statement[R] | None = None


class Gathered(Generic[T, R]):
    """Asks `work` about many items at once: questions asked while a statement runs share the next one.

    A statement begins after all of its questions were asked, so each answer includes what was committed before. The
    next one begins when it has ended, or is late. An item that makes the statement fail fails alone (`in_halves`).

    With `writes`, a caller that is cancelled while its statement runs returns only when that has ended, so that what
    the caller then undoes is not written afterwards.
    """

    def __init__(
        self, name: str, work: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, writes: bool = False
    ) -> None:
        self._name = name
        self._work = work
        self._writes = writes
        self._waiting: deque[_Question[T, R]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        #: The statement that later questions wait for; None: none.
        self._awaited: asyncio.Task[None] | None = None

    async def ask(self, item: T) -> R:
        """What `work` makes of this item.

        Raises:
            GatecastError: the statement failed for this item, or for all.
        """
        question: _Question[T, R] = _Question(item, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        if self._awaited is None:
            self._begin()
        try:
            return await question.answer
        except asyncio.CancelledError:
            if question.statement is not None:
                question.statement.leave()
                if self._writes:
                    await _at_its_end(question.statement.answers)
            raise

    def _begin(self) -> None:
        """Start one more statement, if it is needed and there is room."""
        if self._waiting and len(self._running) < _AT_ONCE:
            self._awaited = asyncio.create_task(self._run(), name=self._name)
            self._running.add(self._awaited)
            self._awaited.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._awaited is task:
            self._awaited = None
            # Cancelled because the loop ends.
            if not task.cancelled():
                self._begin()

    def _pass_by(self) -> None:
        """Stop making later questions wait for the present statement."""
        self._awaited = None
        self._begin()

    async def _run(self) -> None:
        """Answer until no question waits."""
        loop = asyncio.get_running_loop()
        while batch := self._take():
            late = loop.call_later(_LATE, self._pass_by)
            try:
                await self._answer(batch)
            finally:
                late.cancel()

    async def _answer(self, batch: list[_Question[T, R]]) -> None:
        """Run one statement; cancel it once no caller waits for it."""
        asking = asyncio.ensure_future(in_halves([each.item for each in batch], self._work))
        statement = _Statement(asking, len(batch))
        for each in batch:
            each.statement = statement
        try:
            await asyncio.wait([asking])
        except asyncio.CancelledError:
            for each in batch:
                each.answer.cancel()
            raise
        if not asking.cancelled():
            _settle(batch, asking)

    def _take(self) -> list[_Question[T, R]]:
        """The next questions whose callers still wait."""
        batch: list[_Question[T, R]] = []
        while self._waiting and len(batch) < _MOST:
            question = self._waiting.popleft()
            if not question.answer.done():
                batch.append(question)
        return batch


def _settle(batch: list[_Question[T, R]], asked: asyncio.Future[Sequence[R | GatecastError]]) -> None:
    """Give the answers to the callers that still wait."""
    error = asked.exception()
    answers = [error] * len(batch) if error is not None else asked.result()
    for each, answer in zip(batch, answers, strict=True):
        if each.answer.done():
            continue
        if isinstance(answer, BaseException):
            each.answer.set_exception(answer)
        else:
            each.answer.set_result(answer)


async def _at_its_end(statement: asyncio.Future[Sequence[R | GatecastError]]) -> None:
    """Return once the statement has ended, even if cancelled again: it is given up once its last caller has gone."""
    while not statement.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([statement])
