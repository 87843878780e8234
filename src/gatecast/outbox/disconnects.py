"""Disconnects that commit with a change of the outbox's database, whatever the log and forwarding do meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from gatecast.background import BackgroundTask
from gatecast.containment import RetryLoop
from gatecast.storage.contract import Connection, Database, DisconnectReason, Transaction
from gatecast.storage.queries import Queries
from gatecast.waiting import Backoff, Signal

_QUERIES = Queries("gatecast.outbox", "disconnects.sql")

#: How often a process asks, in seconds: a revocation takes effect within a second (promise P9).
_INTERVAL: Final = 0.5

#: So many are kept. A process that has missed more than that disconnects everybody.
_KEPT: Final = 10_000


#: After every number.
_LAST: Final = 2**60


class _Subscription(Protocol):
    """An open subscription."""

    @property
    def connection(self) -> Connection:
        """Who it is of."""

    def end_with(self, reason: str) -> None:
        """End it for this reason."""


class Disconnects:
    """What transactions have disconnected, and what this process still holds of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._signal = Signal()
        #: The last number whose connections were closed here; None before the first look.
        self._seen: int | None = None
        #: Keeps asking, and remembers why it cannot.
        self.loop = RetryLoop(
            "disconnects-not-read",
            "the outbox's database cannot be asked whom to disconnect",
            backoff=Backoff(first=0.1, longest=_INTERVAL),
        )

    async def note(self, transaction: Transaction, *, token_id: str = "", gateway_id: str = "") -> None:
        """Disconnect whoever uses this token, or is this gateway, once the transaction commits.

        Call it last: others who do the same wait for the commit.
        """
        await transaction.execute(_QUERIES["count"])
        await transaction.execute(_QUERIES["note"], token_id, gateway_id)
        await transaction.execute(_QUERIES["forget"], _KEPT)

    @asynccontextmanager
    async def applied_to(
        self, subscriptions: Callable[[], Sequence[_Subscription]], failed: Callable[[BaseException], None]
    ) -> AsyncIterator[None]:
        """Close what transactions disconnect, during the block. What was noted before the block concerns nobody in it.

        Raises:
            StorageError: the database cannot be asked.
        """
        await self.apply(tuple)
        task = BackgroundTask()
        task.on_failure(failed)
        task.start(self.loop.run(lambda: self.apply(subscriptions), rest=self._rest), name="outbox-disconnects")
        try:
            yield
        finally:
            await task.stop()

    async def apply(self, subscriptions: Callable[[], Sequence[_Subscription]]) -> None:
        """Close those of the subscriptions that were disconnected since the last look.

        The first look only notes where to begin. A subscription is there before its token is confirmed, which waits for
        a revocation that is being made. So either the confirmation fails, or the subscription is there at the first
        look after the commit; they are listed once the answer has come.
        """
        seen = self._seen
        rows = await self._database.fetch(_QUERIES["since"], _LAST if seen is None else seen)
        last = int(rows[0]["last"])
        if seen is not None:
            noted = [row for row in rows if row["number"] is not None]
            if last < seen or len(noted) < last - seen:
                # The database was restored, or more was noted than is kept: nobody knows who else must go.
                _end(subscriptions(), DisconnectReason.RESTARTING)
            for row in noted:
                _end_those(subscriptions(), token_id=row["token_id"], gateway_id=row["gateway_id"])
        self._seen = last

    async def _rest(self) -> None:
        await self._signal.wait(_INTERVAL)


def _end_those(subscriptions: Sequence[_Subscription], *, token_id: str, gateway_id: str) -> None:
    if token_id:
        those = [each for each in subscriptions if each.connection.token_id == token_id]
        _end(those, DisconnectReason.TOKEN_REVOKED)
    else:
        those = [each for each in subscriptions if each.connection.gateway_id == gateway_id]
        _end(those, DisconnectReason.GATEWAY_DELETED)


def _end(subscriptions: Sequence[_Subscription], reason: DisconnectReason) -> None:
    for each in subscriptions:
        each.end_with(reason)
