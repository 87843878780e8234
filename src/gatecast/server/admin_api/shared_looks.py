"""One look for all callers that ask at the same time: many open pages cost the database no more than one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: A look is reused for this long, in seconds, or for this many times as long as it took, so that looks seldom
#: follow each other; but no longer than people take what they see for the present.
FRESH = 1.0
_TIMES_ITS_COST = 5
_LONGEST = 5.0

#: Organizations whose last look is kept.
_KEPT = 100


class SharedLooks(Generic[T]):
    """Looks at organizations, one look of each at a time; what was seen holds for a moment.

    `last_change` numbers what this pod itself changes of an organization: a look that began before a change does not
    hold, so that a caller who makes a change and then looks sees it.
    """

    def __init__(
        self,
        look: Callable[[str], Coroutine[Any, Any, T]],
        *,
        name: str,
        clock: Callable[[], float] | None = None,
        last_change: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self._look = look
        self._name = name
        self._clock = clock or asyncio.get_running_loop().time
        self._last_change = last_change
        self._looks: OrderedDict[str, _Look[T]] = OrderedDict()

    def of(self, organization: str) -> Awaitable[T]:
        """The look at an organization of a second ago, or up to five if looks are slow; fails as the look fails."""
        look = self._looks.get(organization)
        if look is None or not look.holds(self._clock(), self._last_change(organization)):
            look = self._begin(organization, after=look)
            self._looks[organization] = look
            self._looks.move_to_end(organization)
            if len(self._looks) > _KEPT:
                self._looks.popitem(last=False)
        # Shielded: the one who asked first may leave, and the others still get their answer.
        return asyncio.shield(look.task)

    def _begin(self, organization: str, *, after: _Look[T] | None) -> _Look[T]:
        """Look as soon as the look before has ended: everybody who asks until then shares this one."""
        look = _Look[T](self._clock)

        async def see() -> T:
            if after is not None and not after.task.done():
                await asyncio.wait([after.task])
            look.begin(self._last_change(organization))
            return await self._look(organization)

        look.follow(asyncio.create_task(see(), name=self._name))
        return look


class _Look(Generic[T]):
    """A look that waits for the one before it, has begun, or has ended and holds for a while."""

    task: asyncio.Task[T]

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: The last change that it sees; None while it has not begun, because it will see those to come.
        self._last_change: int | None = None
        self._begun_at = 0.0
        self._ended_at: float | None = None

    def follow(self, task: asyncio.Task[T]) -> None:
        """This task does it."""
        self.task = task
        task.add_done_callback(lambda _: self._end())

    def begin(self, last_change: int) -> None:
        """It begins now, after this change."""
        self._last_change, self._begun_at = last_change, self._clock()

    def _end(self) -> None:
        self._ended_at = self._clock()

    def holds(self, now: float, last_change: int) -> bool:
        """Whether a caller that asks now, after this change, gets this look."""
        if self._last_change not in (None, last_change):
            return False
        if self._ended_at is None:
            return not self.task.done()
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        cost = self._ended_at - self._begun_at
        return now - self._ended_at < max(FRESH, min(_LONGEST, _TIMES_ITS_COST * cost))
