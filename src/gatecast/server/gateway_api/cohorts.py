"""Gateways that come while others are being connected wait for these, and are then connected together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: A cohort keeps the next one waiting no longer than this, in seconds: a member may wait for a lock.
_LATE = 0.1

#: Most gateways that begin together; as many as share a statement (`gatecast.gathering`).
_MOST = 200


class Cohorts:
    """Lets a single gateway through at once, and those that arrive meanwhile all together (scenario S30).

    A connect is a series of statements. Gateways that begin together need each at the same moment, so that one serves
    all. Without this, each step of each connect would run beside all steps of the others, for few gateways at a time.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}
        #: The members of the present cohort that are not connected yet.
        self._connecting: set[asyncio.Future[None]] = set()
        self._late: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Wait for the next cohort, and belong to it until the block ends."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        if not self._connecting:
            self._begin()
        try:
            await turn
            yield
        finally:
            self._waiting.pop(turn, None)
            self._leave(turn)

    def _leave(self, turn: asyncio.Future[None]) -> None:
        if turn in self._connecting:
            self._connecting.discard(turn)
            if not self._connecting:
                self._begin()

    def _begin(self) -> None:
        """Let waiting gateways begin; those still connecting no longer count."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._connecting = set(list(self._waiting)[:_MOST])
        for turn in self._connecting:
            del self._waiting[turn]
            # One whose client has just gone is cancelled, and leaves in the next turn of the loop.
            if not turn.done():
                turn.set_result(None)
        if self._connecting:
            self._late = asyncio.get_running_loop().call_later(_LATE, self._begin)
