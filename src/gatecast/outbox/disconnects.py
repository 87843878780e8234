"""Disconnects that commit with a change of the outbox's database, even while the log is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, Protocol
from uuid import uuid4

from gatecast.background import BackgroundTask
from gatecast.containment import RetryLoop
from gatecast.storage.contract import Connection, Database, DisconnectReason, Transaction
from gatecast.storage.queries import Queries
from gatecast.waiting import Backoff, Signal

_QUERIES = Queries("gatecast.outbox", "disconnects.sql")

#: How often a process asks, in seconds: a revocation takes effect within a second (promise P9).
_INTERVAL: Final = 0.5

#: The newest that are kept. A process that has missed more than that disconnects everybody.
_KEPT: Final = 10_000


class _Seen(NamedTuple):
    """The last row that was applied here."""

    #: 0 if there was none ever.
    number: int
    #: Distinguishes it from a row with the same number after a restore; None if the row was missing.
    name: str | None


class _Subscription(Protocol):
    """An open subscription."""

    @property
    def connection(self) -> Connection:
        """The connection that receives the events."""

    def end_with(self, reason: str) -> None:
        """End it for this reason."""


class Disconnects:
    """The disconnects that transactions committed, and this process's connections that they concern."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._signal = Signal()
        #: None before the first look.
        self._seen: _Seen | None = None
        #: Keeps asking, and remembers why it cannot.
        self.loop = RetryLoop(
            "disconnects-not-read",
            "the outbox's database cannot be asked whom to disconnect",
            backoff=Backoff(first=0.1, longest=_INTERVAL),
        )

    async def note(self, transaction: Transaction, *, token_id: str = "", gateway_id: str = "") -> None:
        """Disconnect every connection with this token, or of this gateway, once the transaction commits.

        Call it last: others who do the same wait for the commit.
        """
        await transaction.execute(_QUERIES["count"])
        await transaction.execute(_QUERIES["note"], token_id, gateway_id, str(uuid4()))
        await transaction.execute(_QUERIES["forget"], _KEPT)

    @asynccontextmanager
    async def applied_to(
        self, subscriptions: Callable[[], Sequence[_Subscription]], failed: Callable[[BaseException], None]
    ) -> AsyncIterator[None]:
        """Close connections that transactions disconnect during the block; earlier disconnects concern none of them.

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

        The first look only notes where to begin. A subscription is listed before its token is confirmed, and confirming
        waits for a revocation in progress. So either the confirmation fails, or the subscription is seen by the next
        look: subscriptions are listed after the query has been answered.
        """
        seen = self._seen
        rows = await self._database.fetch(_QUERIES["from"], None if seen is None else seen.number)
        last = int(rows[0]["last"])
        names = {row["number"]: row["name"] for row in rows}
        if seen is not None:
            later = [row for row in rows if (row["number"] or 0) > seen.number]
            if len(later) < last - seen.number or (seen.number and names.get(seen.number) != seen.name):
                # The database was restored, or removed disconnects were missed: which others must go is unknown.
                _end(subscriptions(), DisconnectReason.RESTARTING)
            for row in later:
                _end_those(subscriptions(), token_id=row["token_id"], gateway_id=row["gateway_id"])
        self._seen = _Seen(last, names.get(last))

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
