"""Decides which process forwards: one at a time, even if processes stall or die."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from gatecast.errors import DatabaseUnsuitable
from gatecast.outbox.binding import named
from gatecast.outbox.records import Forwarder, Records

#: A forwarder that shows no sign of life for this many seconds is replaced.
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
        self._last_term: str | None = None

    @property
    def left(self) -> float:
        """For how many seconds this process may still forward without another sign of life."""
        return self._ends_at - self._clock() if self.term is not None else 0.0

    async def is_kept(self) -> bool:
        """Renew the lease, and return whether the present term continues."""
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

    async def vacancy(self) -> Forwarder | None:
        """The table's row if this process may take the lease now; None while another process is alive."""
        found = await self._records.forwarder()
        if found.log != self._log:
            raise DatabaseUnsuitable(
                f"the outbox forwards into another log now, {named(found.log, found.log_place)}",
                "open the hub with the URL of that log",
            )
        now = self._clock()
        if found != self._seen:
            self._seen, self._seen_at = found, now
        # A term that this process could not give up belongs to no other process.
        is_of_another = bool(found.pod_id) and found.term != self._last_term
        return None if is_of_another and now - self._seen_at < self._duration else found

    async def take(self, vacancy: Forwarder) -> bool:
        """Begin a term; False if the row has changed since the vacancy was seen."""
        term, now = str(uuid4()), self._clock()
        if not await self._records.take(self._pod_id, term, vacancy):
            return False
        self.term, self._last_term, self._ends_at = term, term, now + self._duration
        return True

    def lose(self) -> None:
        """Stop forwarding: another process does."""
        self.term = None

    async def give_up(self) -> None:
        """Let another process take over at once."""
        if self.term is not None:
            term, self.term = self.term, None
            await self._records.give_up(term)
