"""An event loop whose clock jumps to the next timer when nothing is left to do.

What sleeps for hours is over in milliseconds, and the same schedule repeats exactly. For code without real I/O: sockets
and threads do not take part.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: In seconds; holds for three hundred years of virtual time.
_RESOLUTION = 1e-6

#: Turns of the loop that take a nanosecond. If they took none, a task that is woken within the resolution and waits for
#: the tiny rest would be woken at the same instant for ever.
_TURNS_PER_NANOSECOND = 1_000


class Stalled(AssertionError):
    """Nothing is runnable and no timer is left: every task waits for something that will never happen."""


class _JumpingSelector(selectors.DefaultSelector):
    """Waits by moving the clock."""

    loop: VirtualTimeLoop
    _turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Skip the time that would have to be waited for."""
        if timeout is None:
            raise Stalled("every task waits, and no timer is left")
        self._turns += 1
        self.loop.skip(timeout if self._turns % _TURNS_PER_NANOSECOND else timeout + 1e-9)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own, which begins at 0."""

    def __init__(self) -> None:
        self._virtual_now = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        # What rings within this time rings now. Finer than rounding errors, and a timer would never be due.
        self._clock_resolution = _RESOLUTION

    def time(self) -> float:
        """The time on this loop's clock, in seconds."""
        return self._virtual_now

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual_now += seconds


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a clock that jumps.

    Raises:
        Stalled: the work waits for something that can never happen.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
