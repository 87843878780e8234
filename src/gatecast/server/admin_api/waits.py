"""Waiting until a gateway has confirmed or applied something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from fastapi import Request

from gatecast.errors import NotFound, StorageError, UnknownGateway
from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.gateways import status_of
from gatecast.server.admin_api.models import EventState
from gatecast.storage.contract import OutcomeKind, Receipt
from gatecast.waiting import Backoff

#: How often the database is asked while a caller waits.
_LOOK = Backoff(first=0.02, longest=0.25)

#: A last look at a database that hangs is given up so much later, in seconds.
_GRACE = 2.0

#: The kinds that say no.
REJECTIONS = frozenset({OutcomeKind.REJECTED, OutcomeKind.PARKED, OutcomeKind.SKIPPED})

T = TypeVar("T")


class WaitFor(StrEnum):
    """What a publisher may wait for."""

    CONFIRMED = "confirmed"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an event that is durable."""

    state: EventState = "stored"
    #: Why it was rejected.
    reason: str = ""

    def answers(self, wait: WaitFor) -> bool:
        """Whether waiting longer would tell no more."""
        return self.state in (wait, "applied", "rejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Generic[T]):
    """A caller that waits for a gateway."""

    context: AdminContext
    #: Its request: when it is gone, nobody waits any more.
    request: Request
    #: Finds out what is known.
    look: Callable[[], Awaitable[T]]
    #: Whether waiting longer would tell no more.
    answers: Callable[[T], bool]
    #: At most this long.
    seconds: float

    async def ended(self, known: T) -> T:
        """What is known once it is what was waited for, or once the time is over; at least what is known already.

        What is waited for is durable already, so trouble with the database or the end of this pod ends the wait and
        is no error.
        """
        if self.context.waits.locked():
            return await self._look(known)
        async with self.context.waits:
            return await self._watch(known)

    async def _watch(self, known: T) -> T:
        ends_at = asyncio.get_running_loop().time() + self.seconds
        attempt = 0
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at + _GRACE):
                while True:
                    known = await self._look(known)
                    left = ends_at - asyncio.get_running_loop().time()
                    if self.answers(known) or left <= 0 or await self._is_over():
                        break
                    attempt += 1
                    await self.context.pause(min(left, _LOOK.pause(attempt)))
        return known

    async def _is_over(self) -> bool:
        return self.context.stopping.is_set() or await self.request.is_disconnected()

    async def _look(self, before: T) -> T:
        try:
            return await self.look()
        except (StorageError, UnknownGateway, NotFound):
            return before


async def known_of(context: AdminContext, receipt: Receipt) -> Known:
    """What is known of a published event.

    Raises:
        UnknownGateway: its gateway was deleted meanwhile.
    """
    gateway_id, position = receipt.gateway_id, receipt.position
    outcomes = await context.hub.storage.outcomes.of_events(gateway_id, [position.offset])
    if (rejected := next((one for one in outcomes if one.kind in REJECTIONS), None)) is not None:
        return Known("rejected", rejected.reason)
    if any(one.kind is OutcomeKind.APPLIED for one in outcomes):
        return Known("applied")
    if outcomes:
        # Held because its entity is parked, or published again: nothing is known of it before somebody decides.
        return Known()
    status = await status_of(context, gateway_id)
    # In another epoch the same offset is another event.
    confirmed = status.epoch == position.epoch and status.confirmed >= position.offset
    return Known("confirmed" if confirmed else "stored")
