"""The last word on how long leaving may take."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gatecast.telemetry import get_logger

#: Exit status of a process that did not end in order.
STOPPED_LATE = 1

_logger = get_logger("pod")


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
