"""`/api/v1/gateways/{id}/events`: publishing, and reading the log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request, Response

from gatecast.controlplane.gateway_sync.kept_events import keeps_event
from gatecast.controlplane.gateway_sync.subscriptions import keeps_record_of
from gatecast.errors import Conflict, GatecastError, NotFound, UnknownGateway
from gatecast.events import MAX_INTEGER, Action, Event, Position, RecordedEvent
from gatecast.events.json_values import is_same
from gatecast.protocol.deployments import is_acknowledged
from gatecast.server.admin_api.context import AdminContext, Context, Organization
from gatecast.server.admin_api.forwarding import (
    check_not_lost,
    is_removed,
    known_for_sure,
    known_in_log,
    place_soon,
    receipt_of,
)
from gatecast.server.admin_api.gateways import status_of
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.models import EventPage, EventView, NewEvent, OutcomeView, PublishedEvent, PublishedState
from gatecast.server.admin_api.named import GatewayInPath
from gatecast.server.admin_api.paths import CREATED, Limit, Timeout, located
from gatecast.server.admin_api.waits import Known, PublishedLook, Wait, WaitFor, known
from gatecast.storage.contract import GatewayStatus, Outcome, OutcomeKind, ReadRequest, Receipt
from gatecast.storage.reading import read_each
from gatecast.telemetry import metrics

router = APIRouter(prefix="/api/v1/gateways/{gateway_id}/events", tags=["events"], route_class=JsonRoute)

_MODEL: dict[str, Any] = {"model": PublishedEvent}

#: Most bytes of data in one page of a log; at least one event is shown.
MAX_PAGE_BYTES = 4 * 1024 * 1024


@router.post("", status_code=201, responses={200: _MODEL, 202: _MODEL, **CREATED})
async def publish_event(
    gateway_id: GatewayInPath,
    body: NewEvent,
    context: Context,
    organization: Organization,
    request: Request,
    response: Response,
    wait: Annotated[WaitFor | None, Query(description="Answer when the gateway has confirmed or applied it.")] = None,
    timeout: Timeout = 10,  # noqa: ASYNC109
) -> PublishedEvent:
    """Publish an event: 201 once it is durable, 200 for an id that was published before, 202 after the `timeout`.

    With an outbox, 202 also if it is durable there and not in the log within a second.
    """
    event, has_id = event_of(gateway_id, body), body.event_id is not None
    receipt = await publish_to(context, organization, event, wait=wait is None, has_id=has_id)
    look, found = PublishedLook(context, receipt), Known()
    is_final = True
    if wait is not None:
        # For types that are never acknowledged, a confirmation is the final answer.
        awaited = wait if is_acknowledged(body.type) else WaitFor.CONFIRMED

        def answers(known_: Known) -> bool:
            return known_.answers(awaited) or is_removed(look.receipt)

        found = await Wait(context=context, request=request, look=look, answers=answers, seconds=timeout).ended(found)
        is_final = answers(found)
    response.status_code = status_for(look.receipt) if is_final else 202
    if receipt.created and not look.receipt.pending:
        # Events have no address of their own: this page begins with it.
        located(response, *place_of(look.receipt))
    return answer_for(look.receipt, found)


def status_for(receipt: Receipt) -> int:
    """The status that tells of an event that is durable."""
    if receipt.pending and not is_removed(receipt):
        return 202
    return 201 if receipt.created else 200


def place_of(receipt: Receipt) -> tuple[str, ...]:
    """Where an event is shown, below `/api/v1`."""
    return "gateways", receipt.gateway_id, f"events?after={receipt.position.offset - 1}&limit=1"


def answer_for(receipt: Receipt, found: Known) -> PublishedEvent:
    """The answer for a durable event."""
    return PublishedEvent(
        event_id=receipt.event_id,
        offset=None if receipt.pending else receipt.position.offset,
        position=None if receipt.pending else str(receipt.position),
        state=state_of(receipt, found),
        reason=found.reason,
    )


def state_of(receipt: Receipt, found: Known) -> PublishedState:
    """The state in which an answer shows the event."""
    if is_removed(receipt):
        return "removed"
    return "pending" if receipt.pending else found.state


async def publish_to(
    context: AdminContext, organization: str, event: Event, *, wait: bool = True, has_id: bool = True
) -> Receipt:
    """Publish to a gateway of this organization; with `wait`, an outbox has a second to forward it.

    Without `has_id` the event's id was made for this request: it is new.

    Raises:
        NotFound: it has no such gateway.
        Conflict: the id was published before, with other content.
        RepeatUncertain: it was, and the log may have lost that event, and does not say.
    """
    await context.gateways.check(organization, event.gateway_id)
    try:
        receipt = await _published(context, event, has_id=has_id)
    except UnknownGateway:
        context.gateways.forget(organization, event.gateway_id)
        raise NotFound("gateway", event.gateway_id) from None
    [receipt] = await place_soon(context, [receipt]) if wait else [receipt]
    if not receipt.created:
        await check_same(context, event, receipt.position)
        await check_not_lost(context, receipt)
    return receipt


async def _published(context: AdminContext, event: Event, *, has_id: bool) -> Receipt:
    begun_at = time.monotonic()
    if has_id and (known_already := await _known(context, event)) is not None:
        receipt = known_already
    elif keeps_record_of(event.type):
        receipt = await context.control_plane.subscriptions.publish(event)
    elif keeps_event(event.type):
        receipt = await context.control_plane.kept_events.publish(event)
    else:
        [receipt] = await context.hub.append([event])
    metrics.published(1, duplicates=0 if receipt.created else 1, seconds=time.monotonic() - begun_at)
    return receipt


async def _known(context: AdminContext, event: Event) -> Receipt | None:
    """The receipt of an event whose id was published before, if that matters and is known."""
    if keeps_record_of(event.type) or keeps_event(event.type):
        return await known_for_sure(context, event)
    return receipt_of(event, await known_in_log(context, [event]))


async def check_same(context: AdminContext, event: Event, position: Position) -> None:
    """An id that is published again means the same event; what retention has removed since is taken for it.

    Raises:
        Conflict: it was published with other content.
    """
    if position.pending:
        found = await context.hub.outbox.gateways.entry(event.gateway_id, event.event_id)
        place = "and waits in the outbox"
    else:
        found, place = await _event_at(context, event.gateway_id, position), f"at offset {position.offset}"
    if (
        found is not None
        and found.event_id == event.event_id
        and not is_same(_content(found.checked()), _content(event))
    ):
        raise Conflict(
            f"event {event.event_id} was published before, {place}, with other content; "
            "nothing was stored now: give another event another id",
            field="event_id",
        )


async def _event_at(context: AdminContext, gateway_id: str, position: Position) -> RecordedEvent | None:
    request = ReadRequest(gateway_id=gateway_id, after=position.offset - 1, max_events=1, max_bytes=MAX_PAGE_BYTES)
    [result] = await context.hub.engine.log.read([request])
    return next(iter(result.events), None) if result is not None and result.epoch == position.epoch else None


def _content(event: Event | RecordedEvent) -> tuple[str, Action, str, str, dict[str, Any]]:
    return event.type, event.action, event.entity_type, event.entity_id, dict(event.data)


def event_of(gateway_id: str, body: NewEvent) -> Event:
    """The event that a body describes.

    Raises:
        InvalidValue: a field breaks its rule.
    """
    return Event(
        gateway_id=gateway_id,
        type=body.type,
        action=body.action,
        entity_type=body.entity_type,
        entity_id=body.entity_id,
        data=body.data,
        event_id=body.event_id or uuid4(),
    )


@router.get("")
async def list_events(
    gateway_id: GatewayInPath,
    context: Context,
    organization: Organization,
    after: Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Show the events after this offset.")] = 0,
    limit: Limit = 100,
) -> EventPage:
    """A page of a gateway's log, with the state of each event and the gateway's answer to it."""
    return await page_of_log(context, organization, gateway_id, after=after, limit=limit)


async def page_of_log(
    context: AdminContext, organization: str, gateway_id: str, *, after: int, limit: int
) -> EventPage:
    """The events after this offset in the log of a gateway of the organization.

    Raises:
        NotFound, UnknownGateway: it has no such gateway.
    """
    await context.gateways.get(organization, gateway_id)
    request = ReadRequest(gateway_id=gateway_id, after=after, max_events=limit, max_bytes=MAX_PAGE_BYTES)
    [result] = await read_each(context.hub.engine.log, [request])
    if isinstance(result, GatecastError):
        raise result
    if result is None:
        # Forwarding creates its log; a gateway deleted meanwhile has no status.
        await status_of(context, gateway_id)
        return EventPage(items=[], next=None)
    last = result.events[-1].offset if result.events else result.head
    items = await views_of(context, await status_of(context, gateway_id), result.events, epoch=result.epoch)
    return EventPage(items=items, next=last if last < result.head else None)


async def views_of(
    context: AdminContext, status: GatewayStatus, events: Sequence[RecordedEvent], *, epoch: UUID | None = None
) -> list[EventView]:
    """Events of one gateway, with the state of each; `epoch` is the one that they were read in."""
    read = [event.checked() for event in events]
    outcomes = await context.hub.engine.outcomes.of_events(status.gateway_id, [event.offset for event in read])
    return [_shown(event, Position(epoch or status.epoch, event.offset), status, outcomes) for event in read]


def _shown(event: RecordedEvent, position: Position, status: GatewayStatus, outcomes: Sequence[Outcome]) -> EventView:
    return EventView(
        offset=event.offset,
        event_id=event.event_id,
        type=event.type,
        action=event.action,
        entity_type=event.entity_type,
        entity_id=event.entity_id,
        data=None if event.undeliverable else event.data,
        originated_at=event.originated_at,
        recorded_at=event.recorded_at,
        state=known(position, status, outcomes).state,
        outcome=_worst(event.offset, outcomes),
        undeliverable=event.undeliverable,
        trace_parent=event.trace_parent,
    )


def _worst(offset: int, outcomes: Sequence[Outcome]) -> OutcomeView | None:
    """The outcome of an event; if replicas differ, a rejection counts more."""
    mine = sorted((one for one in outcomes if one.offset == offset), key=lambda one: one.kind is OutcomeKind.APPLIED)
    if not mine:
        return None
    return outcome_view(mine[0])


def outcome_view(one: Outcome) -> OutcomeView:
    """The response model of an outcome."""
    return OutcomeView(replica=one.replica, kind=_SHOWN[one.kind], reason=one.reason, recorded_at=one.recorded_at)


#: Parked is what becomes of the entity; of the event itself the gateway said no.
_SHOWN: Mapping[
    OutcomeKind, Literal["applied", "rejected", "skipped", "held", "released", "undeliverable", "unknown"]
] = {
    OutcomeKind.APPLIED: "applied",
    OutcomeKind.REJECTED: "rejected",
    OutcomeKind.PARKED: "rejected",
    OutcomeKind.HELD: "held",
    OutcomeKind.RETRIED: "held",
    OutcomeKind.SKIPPED: "skipped",
    OutcomeKind.RELEASED: "released",
    OutcomeKind.UNDELIVERABLE: "undeliverable",
    OutcomeKind.OMITTED: "skipped",
    OutcomeKind.UNKNOWN: "unknown",
}
