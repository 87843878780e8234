"""`/api/v1/events`: publishing many events, to many gateways, in one request and one transaction."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Response

from gatecast.controlplane.gateway_sync.kept_events import keeps_event
from gatecast.controlplane.gateway_sync.subscriptions import keeps_record_of
from gatecast.errors import Conflict, InvalidValue, Mistakes, NotFound, UnknownGateway
from gatecast.events import Event
from gatecast.server.admin_api.context import AdminContext, Context, Organization
from gatecast.server.admin_api.events import check_same, event_of
from gatecast.server.admin_api.forwarding import is_removed, known_in_log, place_soon, receipt_of
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.models import NewEvents, NewGatewayEvent, PublishedEvents, PublishedGatewayEvent
from gatecast.server.admin_api.named import ids_of_gateways
from gatecast.storage.contract import Receipt
from gatecast.telemetry import metrics

router = APIRouter(prefix="/api/v1/events", tags=["events"], route_class=JsonRoute)

_MODEL: dict[str, Any] = {"model": PublishedEvents}


@router.post("", status_code=201, responses={200: _MODEL, 202: _MODEL})
async def publish_events(
    body: NewEvents, context: Context, organization: Organization, response: Response
) -> PublishedEvents:
    """Publish events to your gateways, all or none: 201 once they are durable, 200 when all were known before.

    With an outbox, 202 if they are durable there and not all in the log within a second.
    """
    ids = await ids_of_gateways(context, organization, (each.gateway_id for each in body.events))
    events = _events(body.events, ids)
    for gateway_id in dict.fromkeys(event.gateway_id for event in events):
        await context.gateways.check(organization, gateway_id)
    receipts = await _published(context, organization, events)
    receipts = await place_soon(context, receipts)
    results = [await _result(context, event, receipt) for event, receipt in zip(events, receipts, strict=True)]
    response.status_code = max(
        202 if any(receipt.pending and not is_removed(receipt) for receipt in receipts) else 200,
        201 if any(receipt.created for receipt in receipts) else 200,
    )
    items = [
        PublishedGatewayEvent(
            gateway_id=receipt.gateway_id,
            event_id=receipt.event_id,
            offset=None if receipt.pending else receipt.position.offset,
            position=None if receipt.pending else str(receipt.position),
            result=result,
        )
        for receipt, result in zip(receipts, results, strict=True)
    ]
    return PublishedEvents(items=items)


def _events(bodies: Sequence[NewGatewayEvent], ids: Mapping[str, str]) -> list[Event]:
    """The events, each checked like a single one."""
    mistakes = Mistakes()
    events = []
    for number, body in enumerate(bodies):
        with mistakes.noted():
            if keeps_event(body.type) or keeps_record_of(body.type):
                rule = "be of a kind that nothing is kept of; publish this one by itself, to its gateway"
                raise InvalidValue(f"events.{number}.type", body.type, rule)
            events.append(event_of(ids[body.gateway_id], body))
    mistakes.raise_any()
    return events


async def _published(context: AdminContext, organization: str, events: Sequence[Event]) -> Sequence[Receipt]:
    begun_at = time.monotonic()
    try:
        receipts = await _appended(context, events)
    except UnknownGateway as error:
        context.gateways.forget(organization, error.gateway_id)
        raise NotFound("gateway", error.gateway_id) from None
    known = sum(not receipt.created for receipt in receipts)
    metrics.published(len(receipts), duplicates=known, seconds=time.monotonic() - begun_at)
    return receipts


async def _appended(context: AdminContext, events: Sequence[Event]) -> Sequence[Receipt]:
    """A receipt for each event, after storing those that the log lacks."""
    known = await known_in_log(context, events)
    new = [event for event in events if receipt_of(event, known) is None]
    receipts = iter(await context.hub.append(new) if new else ())
    return [receipt_of(event, known) or next(receipts) for event in events]


async def _result(context: AdminContext, event: Event, receipt: Receipt) -> Literal["created", "known", "conflict"]:
    if receipt.created:
        return "created"
    try:
        await check_same(context, event, receipt.position)
    except Conflict:
        return "conflict"
    return "known"
