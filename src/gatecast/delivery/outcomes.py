"""Stores what gateways reported about single events, in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatecast.containment import RetryLoop, concerns_everyone, log_failure, refused_in_halves
from gatecast.errors import GatecastError
from gatecast.storage.contract import Outcome, Outcomes
from gatecast.waiting import Backoff, Signal

#: Most outcomes that wait to be stored. During a long database outage the oldest are dropped. A gateway may lose an
#: acknowledgement at any time, so that is a normal outcome; if a position waits for a dropped outcome, its connection
#: is notified.
MAX_WAITING = 10_000

_BATCH = 500


def _nothing() -> None:
    """Do nothing: no caller waits for the outcome."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    outcome: Outcome
    on_stored: Callable[[], None]
    on_dropped: Callable[[], None]


class OutcomeRecorder:
    """Keeps outcomes until the database has stored them."""

    def __init__(self, outcomes: Outcomes, *, backoff: Backoff | None = None) -> None:
        self._outcomes = outcomes
        #: Keeps the pod storing, and remembers why it does not.
        self.loop = RetryLoop(
            "outcomes-not-stored", "outcomes cannot be stored", backoff=backoff or Backoff(first=0.2, longest=5.0)
        )
        self._waiting: deque[_Waiting] = deque()
        self._signal = Signal()

    def report(
        self, outcome: Outcome, *, on_stored: Callable[[], None] = _nothing, on_dropped: Callable[[], None] = _nothing
    ) -> None:
        """Store this outcome soon. One of the two is called: when it is stored, or when it is dropped."""
        self._waiting.append(_Waiting(outcome, on_stored, on_dropped))
        self._make_room()
        self._signal.set()

    def _make_room(self) -> None:
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().on_dropped()

    async def run(self) -> None:
        """Store outcomes until cancelled; keep those that cannot be stored now."""
        await self.loop.run(self._store_waiting, rest=self._signal.wait)

    async def _store_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                results = await refused_in_halves(batch, self._record)
            except BaseException:
                self._keep(batch)
                raise
            self._settle(results)

    async def _record(self, batch: Sequence[_Waiting]) -> None:
        await self._outcomes.record([each.outcome for each in batch])

    def _settle(self, results: Sequence[tuple[_Waiting, GatecastError | None]]) -> None:
        """Report each result; keep outcomes that wait for the database, and drop those that it refuses.

        Raises:
            StorageError: the database is away.
        """
        kept = [(each, error) for each, error in results if error is not None and concerns_everyone(error)]
        self._keep([each for each, _ in kept])
        for each, error in results:
            if error is None:
                each.on_stored()
            elif not concerns_everyone(error):
                log_failure("outcome-refused", error, gateway=each.outcome.gateway_id, offset=each.outcome.offset)
                each.on_dropped()
        for _, error in kept:
            raise error

    def _keep(self, batch: Sequence[_Waiting]) -> None:
        self._waiting.extendleft(reversed(batch))
        self._make_room()
