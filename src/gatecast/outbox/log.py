"""The engine of a hub with an outbox: it reads the log, and writes to the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from gatecast.errors import StorageError
from gatecast.events import Event, Position
from gatecast.outbox.forwarder import Forwarder
from gatecast.storage.contract import (
    Changes,
    Claim,
    Engine,
    EventLog,
    Outcomes,
    Parking,
    Place,
    Presence,
    PublishResult,
    ReadRequest,
    ReadResult,
    Receipt,
    Remembered,
    Survey,
    TrimPass,
    TrimPolicy,
    Verdict,
)

#: Longest wait for the log, in seconds, when registering or deleting outside a transaction.
_FOLLOW_TIME_LIMIT: Final = 5.0

#: Seconds until the log is asked again, unless this process forwards something first.
_LOOK_AGAIN: Final = 0.1


class OutboxLog:
    """`gatecast.storage.contract.EventLog`, whose changes go through the outbox.

    All of them do, with and without a transaction. So an event is never overtaken by a later one (promise P2), and no
    lock is held while the log is waited for.
    """

    def __init__(self, outbox: EventLog, log: EventLog, forwarder: Forwarder) -> None:
        self._outbox = outbox
        self._log = log
        self._forwarder = forwarder

    async def publish(
        self, groups: Sequence[Sequence[Event]], *, wait: bool = True, logs: Mapping[str, int] | None = None
    ) -> list[PublishResult]:
        """The result of each group of events, once they are in the outbox; their positions are pending."""
        assert logs is None  # noqa: S101 - only forwarding names logs, and it goes to the log itself
        results = await self._outbox.publish(groups, wait=wait)
        self._forwarder.look()
        return [_pending(result) if isinstance(result, tuple) else result for result in results]

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """A receipt for each event, appended to the outbox in the caller's transaction; the positions are pending."""
        return _pending(await self._outbox.publish_in(transaction, events))

    async def register(self, gateway_id: str, *, transaction: object | None = None, claim: Claim | None = None) -> bool:
        """Register the gateway in the outbox; False if it is registered there. Its log is created by forwarding.

        Without a transaction, returns when the log is there; after 5 seconds in any case.
        """
        assert claim is None  # noqa: S101 - as above
        created = await self._outbox.register(gateway_id, transaction=transaction)
        if transaction is None:
            await self._followed(lambda: self._is_registered(gateway_id))
        return created

    async def forget(self, gateway_id: str, *, transaction: object | None = None, log_id: int | None = None) -> bool:
        """Delete the gateway and its entries in the outbox; False if it is unknown. Forwarding deletes its log.

        Without a transaction, returns when the log is gone; after 5 seconds in any case.
        """
        assert log_id is None  # noqa: S101 - as above
        deleted = await self._outbox.forget(gateway_id, transaction=transaction)
        if transaction is None and deleted:

            async def is_gone() -> bool:
                return not await self._is_registered(gateway_id)

            await self._followed(is_gone)
        return deleted

    async def _followed(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait a little until forwarding has done it; what is in the outbox is done later, whatever happens here."""
        self._forwarder.look()
        with suppress(TimeoutError, StorageError):
            async with asyncio.timeout(_FOLLOW_TIME_LIMIT):
                while not await is_so():
                    await self._forwarder.moved(_LOOK_AGAIN)

    async def _is_registered(self, gateway_id: str) -> bool:
        [found] = await self._log.read([ReadRequest(gateway_id=gateway_id, after=0, max_events=1, max_bytes=1)])
        return found is not None

    async def is_held(self, gateway_id: str) -> bool:
        """Whether an open transaction holds the gateway's entries in the outbox now."""
        return await self._outbox.is_held(gateway_id)

    # --- of the log -------------------------------------------------------------------------------------------------

    async def identity(self) -> UUID:
        """Which log this is."""
        return await self._log.identity()

    async def claim(self, claim: Claim) -> None:
        """Make every earlier claim of this owner in the log void."""
        await self._log.claim(claim)

    async def changed_since(self, marker: int) -> Changes:
        """The logs that have grown since `marker`."""
        return await self._log.changed_since(marker)

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """How far each of these logs had grown when `marker` was taken."""
        return await self._log.places(gateway_ids, marker)

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The result of each request, in order; None where the gateway is not registered in the log."""
        return await self._log.read(requests)

    async def find(self, gateway_id: str, event_ids: Sequence[UUID]) -> Mapping[UUID, Position]:
        """Where these events are in the gateway's log, by id."""
        return await self._log.find(gateway_id, event_ids)

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass | None = None) -> int:
        """How many old events of the log were removed."""
        return await self._log.trim(policy, trim_pass)

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether the log lacks one of these events."""
        return await self._log.contradicts(remembered)

    async def renew_epoch(self, expected: UUID) -> UUID:
        """The present epoch of the log, after a new history has begun."""
        return await self._log.renew_epoch(expected)

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """The present epoch of the log, after recording where its history is."""
        return await self._log.record_history(expected, verdict)


def _pending(receipts: Sequence[Receipt]) -> tuple[Receipt, ...]:
    return tuple(receipt.in_outbox() for receipt in receipts)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEngine:
    """`gatecast.storage.contract.Engine`: that of the log, except that changes go through the outbox."""

    log: OutboxLog
    presence: Presence
    outcomes: Outcomes
    parking: Parking
    survey: Survey

    @classmethod
    def over(cls, engine: Engine, log: OutboxLog) -> OutboxEngine:
        """This engine, with this log in place of its own."""
        return cls(
            log=log,
            presence=engine.presence,
            outcomes=engine.outcomes,
            parking=engine.parking,
            survey=engine.survey,
        )
