"""Stores what gateways said of single events, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gatecast.errors import StorageError
from gatecast.storage.contract import Outcome, Outcomes
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff, Signal

#: Most outcomes that wait to be stored. When the database is away for long the oldest go. A gateway may lose an
#: acknowledgement at any time, so that is a normal outcome; where a position waits for one, its connection is told.
MAX_WAITING = 10_000

_BATCH = 500

_logger = get_logger("outcomes")


def _nothing() -> None:
    """Nobody waits for it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    outcome: Outcome
    on_stored: Callable[[], None]
    on_dropped: Callable[[], None]


class OutcomeRecorder:
    """Keeps outcomes until the database has them."""

    def __init__(self, outcomes: Outcomes, *, backoff: Backoff | None = None) -> None:
        self._outcomes = outcomes
        self._backoff = backoff or Backoff(first=0.2, longest=5.0)
        self._waiting: deque[_Waiting] = deque()
        self._signal = Signal()

    def report(
        self, outcome: Outcome, *, on_stored: Callable[[], None] = _nothing, on_dropped: Callable[[], None] = _nothing
    ) -> None:
        """Store this outcome soon. One of the two is called: once it is stored, or when it has to go."""
        self._waiting.append(_Waiting(outcome, on_stored, on_dropped))
        self._make_room()
        self._signal.set()

    def _make_room(self) -> None:
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().on_dropped()

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
                await self._outcomes.record([each.outcome for each in batch])
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                self._make_room()
                raise
            for each in batch:
                each.on_stored()
