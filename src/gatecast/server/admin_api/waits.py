"""Waiting until gateways have confirmed or applied something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from gatecast.containment import contained
from gatecast.errors import NotFound, UnknownGateway
from gatecast.events import Position
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.forwarding import place_now
from gatecast.server.admin_api.gateways import status_of
from gatecast.server.admin_api.models import EventState, GatewayEventState, GatewayEventStates
from gatecast.server.admin_api.paths import Timeout
from gatecast.storage.contract import GatewayStatus, Outcome, OutcomeKind, Receipt
from gatecast.waiting import Backoff

#: How often the database is asked while a caller waits.
_LOOK = Backoff(first=0.02, longest=0.25)

#: A last look at a database that hangs is given up so much later, in seconds.
_GRACE = 2.0

#: The kinds that say no.
REJECTIONS = frozenset(
    {
        OutcomeKind.REJECTED,
        OutcomeKind.PARKED,
        OutcomeKind.SKIPPED,
        OutcomeKind.UNDELIVERABLE,
        OutcomeKind.OMITTED,
    }
)

T = TypeVar("T")


class WaitFor(StrEnum):
    """What a publisher may wait for."""

    CONFIRMED = "confirmed"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Known:
    """The known state of a durable event."""

    state: EventState = "stored"
    #: Why it was rejected.
    reason: str = ""

    def answers(self, wait: WaitFor) -> bool:
        """Whether waiting longer would change nothing."""
        return self.state in (wait, "applied", "rejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Generic[T]):
    """A caller that waits for a gateway."""

    context: AdminContext
    #: The caller's request: the wait ends when the caller has gone.
    request: Request
    #: Finds out what is known.
    look: Callable[[], Awaitable[T]]
    #: Whether waiting longer would change nothing.
    answers: Callable[[T], bool]
    #: At most this long.
    seconds: float

    async def ended(self, known: T) -> T:
        """The state that was waited for, or the last one when the time is over; at least the present state.

        The event is durable already, so a database problem or the end of this pod just ends the wait.
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
        with contained("wait-could-not-look"), suppress(UnknownGateway, NotFound):
            return await self.look()
        return before


def known(position: Position, status: GatewayStatus, outcomes: Iterable[Outcome]) -> Known:
    """The state of the event at a position.

    Read `outcomes` after `status`: a position passes a rejected event only once the rejection is stored.
    """
    mine = [one for one in outcomes if one.offset == position.offset]
    if (rejected := next((one for one in mine if one.kind in REJECTIONS), None)) is not None:
        return Known("rejected", rejected.reason)
    if any(one.kind is OutcomeKind.APPLIED for one in mine):
        return Known("applied")
    if mine:
        # Held because its entity is parked, or published again: nothing is known of it before an operator decides.
        return Known()
    # In another epoch the same offset is another event.
    confirmed = status.epoch == position.epoch and status.confirmed >= position.offset
    return Known("confirmed" if confirmed else "stored")


@dataclass(slots=True)
class PublishedLook:
    """Looks at a published event again and again."""

    context: AdminContext
    #: With the event's place in the log, once that is known.
    receipt: Receipt

    async def __call__(self) -> Known:
        """The present state of the event.

        Raises:
            UnknownGateway: its gateway was deleted meanwhile.
        """
        self.receipt = await place_now(self.context, self.receipt)
        if self.receipt.pending:
            return Known()
        gateway_id, position = self.receipt.gateway_id, self.receipt.position
        status = await status_of(self.context, gateway_id)
        outcomes = await self.context.hub.engine.outcomes.of_events(gateway_id, [position.offset])
        return known(position, status, outcomes)


# --- what goes to many gateways -----------------------------------------------------------------------------------

NOT_EVERYWHERE: dict[int | str, dict[str, Any]] = {
    202: {
        "model": GatewayEventStates,
        "description": "Done; not every gateway has confirmed it yet, one rejected it, or there are no gateways.",
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """How long a caller waits for every gateway that a change concerns.

    An event that no client acknowledges is final once it is confirmed.
    """

    context: AdminContext
    request: Request
    #: None: it does not wait.
    wait: WaitFor | None
    seconds: float

    async def told(self, receipts: Iterable[Receipt]) -> list[GatewayEventState]:
        """The state of a change at each gateway, once all have confirmed it or the time is over.

        If a gateway has several events, the last one counts: events are confirmed in order.
        """
        last = {receipt.gateway_id: receipt for receipt in receipts}
        told = [_told(receipt, Known()) for receipt in last.values()]
        if self.wait is None or not told:
            return told
        look = _Everywhere(self.context, last).again
        wait = Wait(
            context=self.context, request=self.request, look=look, answers=_is_final_everywhere, seconds=self.seconds
        )
        return await wait.ended(told)

    def waited_in_vain(self, told: Iterable[GatewayEventState]) -> bool:
        """Whether the caller waited in vain for one of them, or had no gateway to wait for."""
        states = [each.state for each in told]
        return self.wait is not None and (not states or not {*states} <= {"confirmed", "applied"})

    async def ended(self, receipts: Iterable[Receipt]) -> Response:
        """The answer to a request that ends something: 204, or 202 when it was waited for in vain."""
        told = await self.told(receipts)
        if not self.waited_in_vain(told):
            return Response(status_code=204)
        return JSONResponse(GatewayEventStates(gateways=told).model_dump(mode="json", by_alias=True), status_code=202)


async def _wait_policy(
    context: Context,
    request: Request,
    wait: Annotated[
        WaitFor | None,
        Query(
            description="Answer when every gateway has confirmed it: the final word, so `applied` waits for the same."
        ),
    ] = None,
    timeout: Timeout = 10,  # noqa: ASYNC109 - a parameter of the query
) -> WaitPolicy:
    return WaitPolicy(context=context, request=request, wait=wait, seconds=timeout)


ForEveryGateway = Annotated[WaitPolicy, Depends(_wait_policy)]


def _is_final_everywhere(told: Iterable[GatewayEventState]) -> bool:
    return all(each.state not in _OPEN for each in told)


#: States that can still change.
_OPEN = frozenset({"pending", "stored"})


class _Everywhere:
    """Looks at many gateways with one question, and once more at each that has confirmed."""

    def __init__(self, context: AdminContext, receipts: Mapping[str, Receipt]) -> None:
        self._context = context
        self._open = dict(receipts)
        self._final: dict[str, GatewayEventState] = {}

    async def again(self) -> list[GatewayEventState]:
        """The present states; a deleted gateway has nothing left to confirm."""
        statuses = await self._context.hub.status(list(self._open))
        told = [await self._of(receipt, statuses.get(name)) for name, receipt in list(self._open.items())]
        return [*self._final.values(), *(each for each in told if each is not None and each.state in _OPEN)]

    async def _of(self, receipt: Receipt, status: GatewayStatus | None) -> GatewayEventState | None:
        name = receipt.gateway_id
        if status is None:
            del self._open[name]
            return None
        receipt = self._open[name] = await place_now(self._context, receipt)
        if receipt.pending:
            return _told(receipt, Known())
        position = receipt.position
        if known(position, status, ()).state == "stored":
            return _told(receipt, Known())
        outcomes = await self._context.hub.engine.outcomes.of_events(name, [position.offset])
        told = _told(receipt, known(position, status, outcomes))
        if told.state != "stored":
            del self._open[name]
            self._final[name] = told
        return told


def _told(receipt: Receipt, known_: Known) -> GatewayEventState:
    return GatewayEventState(
        gateway_id=receipt.gateway_id,
        event_id=receipt.event_id,
        offset=None if receipt.pending else receipt.position.offset,
        position=None if receipt.pending else str(receipt.position),
        state="pending" if receipt.pending else known_.state,
        reason=known_.reason,
    )
