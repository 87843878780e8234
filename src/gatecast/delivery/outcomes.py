"""Stores what gateways said of single events, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gatecast.errors import StorageError
from gatecast.storage.contract import Outcome, Outcomes
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff, Signal

#: Most outcomes that wait to be stored. A gateway may lose an acknowledgement at any time, so when the database is
#: away for long the oldest go: no acknowledgement is a normal outcome.
MAX_WAITING = 10_000

_BATCH = 500

_logger = get_logger("outcomes")


def _nothing() -> None:
    """Nobody waits for it."""


class OutcomeRecorder:
    """Keeps outcomes until the database has them."""

    def __init__(self, outcomes: Outcomes, *, backoff: Backoff | None = None) -> None:
        self._outcomes = outcomes
        self._backoff = backoff or Backoff(first=0.2, longest=5.0)
        self._waiting: deque[tuple[Outcome, Callable[[], None]]] = deque(maxlen=MAX_WAITING)
        self._signal = Signal()

    def report(self, outcome: Outcome, *, on_stored: Callable[[], None] = _nothing) -> None:
        """Store this outcome soon, and then call `on_stored`; never called for one that had to go."""
        self._waiting.append((outcome, on_stored))
        self._signal.set()

    async def run(self) -> None:
        """Store until cancelled; what cannot be stored now is kept."""
        failures = 0
        while True:
            await self._signal.wait()
            try:
                await self._store_waiting()
            except StorageError as error:
                failures += 1
                _logger.warning("outcomes-not-stored", error=str(error), attempt=failures)
                await asyncio.sleep(self._backoff.pause(failures))
                self._signal.set()
                continue
            failures = 0

    async def _store_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                await self._outcomes.record([outcome for outcome, _ in batch])
            except BaseException:
                # What came meanwhile is newer: only as many go back as there is room for.
                room = MAX_WAITING - len(self._waiting)
                self._waiting.extendleft(reversed(batch[max(0, len(batch) - room) :]))
                raise
            for _, on_stored in batch:
                on_stored()
