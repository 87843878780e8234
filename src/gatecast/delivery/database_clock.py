"""The database's clock, estimated from answers that the pod receives anyway."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

#: This many answers are remembered; the quickest of them shows the clock most exactly.
_REMEMBERED = 8

#: Two clocks that run alike drift apart by less than this while that many answers come; in seconds.
_DRIFT = 0.005


class DatabaseClock:
    """Converts instants of this pod's monotonic clock to the database's clock, which all pods share."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        #: Our own clock, in seconds; finer than that of an event loop.
        self.now = now
        #: How far the database's clock is ahead of ours, and by how much that may be wrong.
        self._measured: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)
        #: How many seconds the database's clock, in seconds since 1970, is ahead of ours; None before the first answer.
        self.ahead: float | None = None

    def measure(self, *, asked_at: float, answered_at: float, shown: float) -> None:
        """Record what the database's clock showed at a moment between the question and the answer."""
        uncertainty = (answered_at - asked_at) / 2
        ahead = shown - asked_at - uncertainty
        if self.ahead is not None and abs(ahead - self.ahead) > uncertainty + _DRIFT:
            # The offset is no longer possible: a clock was set, another server answers, or this machine slept.
            self._measured.clear()
        self._measured.append((uncertainty, ahead))
        self.ahead = min(self._measured)[1]

    def at(self, moment: float) -> float | None:
        """The database's clock at this moment of the pod's, in seconds since 1970; None before the first answer."""
        return None if self.ahead is None else moment + self.ahead
