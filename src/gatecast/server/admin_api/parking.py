"""`/api/v1/gateways/{id}/parked`: entities with a rejected event, and decisions about them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from gatecast.errors import NotFound
from gatecast.events import MAX_INTEGER
from gatecast.server.admin_api.auditing import describe
from gatecast.server.admin_api.context import AdminContext, Context, Organization
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.models import ParkedEntityName, ParkedPage, ParkedView
from gatecast.server.admin_api.named import GatewayInPath
from gatecast.server.admin_api.paths import Limit

router = APIRouter(prefix="/api/v1/gateways/{gateway_id}/parked", tags=["gateways"], route_class=JsonRoute)


@router.get("")
async def list_parked(
    gateway_id: GatewayInPath,
    context: Context,
    organization: Organization,
    after: Annotated[int, Query(ge=0, le=MAX_INTEGER, description="`next` of the previous page.")] = 0,
    limit: Limit = 100,
) -> ParkedPage:
    """A page of parked entities: the rejected event, its reason, and how many later events wait."""
    await context.gateways.get(organization, gateway_id)
    found = await context.hub.engine.parking.parked(gateway_id, after=after, limit=limit + 1)
    items = [
        ParkedView(
            entity_type=each.entity_type,
            entity_id=each.entity_id,
            replica=each.replica,
            offset=each.offset,
            event_id=each.event_id,
            reason=each.reason,
            rejected_at=each.rejected_at,
            held=each.held,
            undeliverable=each.undeliverable,
        )
        for each in found[:limit]
    ]
    return ParkedPage(items=items, next=items[-1].offset if len(found) > limit else None)


@router.post("/retry", status_code=204)
async def retry_parked(
    gateway_id: GatewayInPath, body: ParkedEntityName, request: Request, context: Context, organization: Organization
) -> None:
    """Publish the rejected event and the later events of its entity again, as new events, in order."""
    await describe(request, context, **body.model_dump())
    await _resolve(context, organization, gateway_id, body, retry=True)


@router.post("/skip", status_code=204)
async def skip_parked(
    gateway_id: GatewayInPath, body: ParkedEntityName, request: Request, context: Context, organization: Organization
) -> None:
    """Leave the rejected event out, and publish the later events of its entity again, as new events, in order."""
    await describe(request, context, **body.model_dump())
    await _resolve(context, organization, gateway_id, body, retry=False)


async def _resolve(
    context: AdminContext, organization: str, gateway_id: str, name: ParkedEntityName, *, retry: bool
) -> None:
    await context.gateways.get(organization, gateway_id)
    entity = (name.entity_type.strip(), name.entity_id.strip())
    if not await context.hub.delivery.resolve(gateway_id, name.replica.strip(), entity, retry=retry):
        raise NotFound("parked entity", " ".join(entity))
