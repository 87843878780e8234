"""The log as a term reaches it: nothing is asked of it once another process may forward."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from gatecast.errors import StorageUnavailable
from gatecast.outbox.lease import Lease
from gatecast.outbox.records import TermOver
from gatecast.outbox.term import Term
from gatecast.storage.contract import Changes, EventLog, ReadRequest, ReadResult

#: Past the end of every log.
_PAST_EVERY_END: Final = (1 << 62) - 1

T = TypeVar("T")


class Reach:
    """Asks the log, as long as the lease lasts."""

    def __init__(self, log: EventLog, lease: Lease) -> None:
        self._log = log
        self._lease = lease

    async def keep(self, term: Term) -> None:
        """Return if the term continues."""
        if not await self._lease.is_kept() or self._lease.term != term.name:
            raise TermOver

    async def in_time(self, term: Term, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work on the log, which must not reach the log once another process may forward.

        Raises:
            StorageUnavailable: the lease ended first; what was sent may have been stored.
        """
        left = self._lease.left
        if self._lease.term != term.name or left <= 0:
            raise TermOver
        try:
            async with asyncio.timeout(left):
                return await work()
        except TimeoutError as error:
            raise StorageUnavailable("the log did not answer before the lease of the forwarder ended") from error

    async def read(self, term: Term, requests: Sequence[ReadRequest]) -> Sequence[ReadResult | None]:
        """What the log answers to these requests, in time."""
        return await self.in_time(term, lambda: self._log.read(requests))

    async def end_of(self, term: Term, gateway_id: str) -> ReadResult | None:
        """The log of a gateway, without events; None if it has none."""
        request = ReadRequest(gateway_id=gateway_id, after=_PAST_EVERY_END, max_events=1, max_bytes=1)
        [log] = await self.read(term, [request])
        return log

    async def changed_since(self, term: Term, marker: int) -> Changes:
        """The logs that have grown since this marker."""
        return await self.in_time(term, lambda: self._log.changed_since(marker))
