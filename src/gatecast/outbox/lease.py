"""Decides which process forwards: one at a time, whatever stands still or dies."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from gatecast.errors import DatabaseUnsuitable
from gatecast.outbox.binding import named
from gatecast.outbox.records import Forwarder, Records

#: A forwarder that shows no life for so many seconds is replaced.
LEASE = 10.0


class Lease:
    """The right to forward, renewed while it is used.

    No two clocks are compared. The holder stops when its own clock says that the lease has run out since its last sign
    of life; another process takes over once its own clock says that it has seen no new sign for as long.
    """

    def __init__(self, records: Records, pod_id: str, *, log: str = "", clock: Callable[[], float]) -> None:
        self._records = records
        self._log = log
        self._pod_id = pod_id
        self._clock = clock
        self._duration = LEASE
        self._ends_at = 0.0
        self._seen: Forwarder | None = None
        self._seen_at = 0.0
        #: The name of the term in which this process forwards; None while it does not.
        self.term: str | None = None

    @property
    def left(self) -> float:
        """For how many seconds this process may still forward without another sign of life."""
        return self._ends_at - self._clock() if self.term is not None else 0.0

    async def is_held(self) -> bool:
        """Whether this process forwards now, after renewing its lease or taking one that was abandoned.

        In between, what was found out may have changed: work that began before goes by `is_kept`.
        """
        return await self.is_kept() or await self._take()

    async def is_kept(self) -> bool:
        """Whether the present term goes on, after renewing the lease; takes none."""
        return self.term is not None and await self._renew(self.term)

    async def _renew(self, term: str) -> bool:
        if self.left > self._duration * 2 / 3:
            return True
        now = self._clock()
        if not await self._records.beat(term):
            self.lose()
            return False
        self._ends_at = now + self._duration
        return True

    async def _take(self) -> bool:
        found = await self._records.forwarder()
        if found.log != self._log:
            raise DatabaseUnsuitable(
                f"the outbox forwards into another log now, {named(found.log, found.log_place)}",
                "open the hub with the URL of that log",
            )
        if found != self._seen:
            self._seen, self._seen_at = found, self._clock()
        now = self._clock()
        if found.pod_id and now - self._seen_at < self._duration:
            return False
        term = str(uuid4())
        if not await self._records.take(self._pod_id, term, found):
            return False
        self.term, self._ends_at = term, now + self._duration
        return True

    def lose(self) -> None:
        """Forward no more: another process does."""
        self.term = None

    async def give_up(self) -> None:
        """Let another process take over at once."""
        if self.term is not None:
            term, self.term = self.term, None
            await self._records.give_up(term)
