"""How long a pod may take to stop: the steps share one time, and past its end the process is ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum

from gatecast.telemetry import get_logger

#: Time for a step that begins too late, in seconds: enough for one round trip.
_SHORTEST = 0.1

#: Exit status of a process that did not end in order.
STOPPED_LATE = 1

_logger = get_logger("pod")


class Part(float, Enum):
    """The part of the drain time at whose end each step of stopping has ended, in the order of the steps.

    A step that finishes early leaves its time to later steps; a hanging one takes none of theirs.
    """

    BALANCERS_HAVE_NOTICED = 1 / 4
    GATEWAYS_HAVE_LEFT = 1 / 2
    REQUESTS_ARE_FINISHED = 3 / 4
    ACKNOWLEDGEMENTS_ARE_STORED = 7 / 8
    HUB_IS_CLOSED = 1


class DrainTime:
    """The time that the steps of stopping share; it runs from the first step on."""

    def __init__(self, whole: timedelta, *, clock: Callable[[], float]) -> None:
        self._seconds = whole.total_seconds()
        self._clock = clock
        self._began: float | None = None

    def begin(self) -> None:
        """The first step begins."""
        self._began = self._clock()

    def until(self, part: Part) -> float:
        """The time that is left until this part of the whole has passed; in seconds."""
        passed = 0.0 if self._began is None else self._clock() - self._began
        return max(_SHORTEST, self._seconds * part - passed)


@contextmanager
def ended_within(seconds: float) -> Iterator[None]:
    """End the process when the block takes longer than this.

    Every step of leaving is bounded, but what a driver does with a hanging database is not ours to bound: a statement
    that is cancelled waits for the server's word. By then every position can be repeated and the lease runs out by
    itself, so nothing is lost by going without.
    """
    timer = threading.Timer(seconds, _end_process)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_process() -> None:
    _logger.error("stopped-late")
    os._exit(STOPPED_LATE)
