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

    `changes` counts what this pod itself has changed: a look that began before a change does not hold, so that the
    caller who makes a change and then looks sees it.
    """

    def __init__(
        self,
        look: Callable[[str], Coroutine[Any, Any, T]],
        *,
        name: str,
        clock: Callable[[], float] | None = None,
        changes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._look = look
        self._name = name
        self._clock = clock or asyncio.get_running_loop().time
        self._changes = changes
        self._looks: OrderedDict[str, _Look[T]] = OrderedDict()

    def of(self, organization: str) -> Awaitable[T]:
        """The look at an organization of a second ago, or up to five if looks are slow; fails as the look fails."""
        look, changes = self._looks.get(organization), self._changes()
        if look is None or look.changes != changes or not look.holds(self._clock()):
            look = _Look(asyncio.create_task(self._look(organization), name=self._name), self._clock, changes)
            self._looks[organization] = look
            self._looks.move_to_end(organization)
            if len(self._looks) > _KEPT:
                self._looks.popitem(last=False)
        # Shielded: the one who asked first may leave, and the others still get their answer.
        return asyncio.shield(look.task)


class _Look(Generic[T]):
    """A look that has begun, or has ended and holds for a while."""

    def __init__(self, task: asyncio.Task[T], clock: Callable[[], float], changes: int) -> None:
        self.task = task
        #: How many changes had been made when it began.
        self.changes = changes
        self._begun_at = clock()
        self._ended_at: float | None = None
        task.add_done_callback(lambda _: self._end(clock()))

    def _end(self, now: float) -> None:
        self._ended_at = now

    def holds(self, now: float) -> bool:
        """Whether a caller that asks now gets this look."""
        if self._ended_at is None:
            return not self.task.done()
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        cost = self._ended_at - self._begun_at
        return now - self._ended_at < max(FRESH, min(_LONGEST, _TIMES_ITS_COST * cost))
