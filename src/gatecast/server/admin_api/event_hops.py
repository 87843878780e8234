"""`/api/v1/gateways/{id}/events/{offset}`: one event, and its way hop by hop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from gatecast.errors import NotFound
from gatecast.events import MAX_INTEGER
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.events import outcome_view, page_of_log
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.models import EventView, Model, OutcomeView
from gatecast.server.admin_api.named import GatewayInPath
from gatecast.storage.contract import Outcome
from gatecast.storage.hops import Delivery

router = APIRouter(prefix="/api/v1/gateways/{gateway_id}/events", tags=["events"], route_class=JsonRoute)

Offset = Annotated[int, Path(ge=1, le=MAX_INTEGER)]


class HopView(Model):
    """A hop that an event passed."""

    hop: Literal["picked-up", "sent", "confirmed"] = Field(
        description="`picked-up` by the pod that holds the connection, `sent` over it, `confirmed` by the gateway."
    )
    at: datetime = Field(description="By the database's clock, like `recordedAt`.")
    within: float = Field(
        description="Up to this many seconds before or after `at`: events that pass together are recorded together."
    )


class DeliveryView(Model):
    """The way of an event over one connection."""

    replica: str
    connection_id: str | None = Field(description="Null: no longer known.")
    pod_id: str | None
    hops: list[HopView] = Field(description="The hops that it has passed, in order; hops no longer known are left out.")


class EventDetail(EventView):
    """A recorded event, and how it came to the gateway."""

    deliveries: list[DeliveryView] = Field(
        description="One for each connection that picked it up, oldest first: several if the gateway has "
        "replicas, or if it was sent again."
    )
    outcomes: list[OutcomeView] = Field(description="What each replica reported about it.")


@router.get("/{offset}")
async def show_event(
    gateway_id: GatewayInPath, offset: Offset, context: Context, organization: Organization
) -> EventDetail:
    """One event, and when it was recorded, picked up by a pod, sent, confirmed, and applied or rejected."""
    page = await page_of_log(context, organization, gateway_id, after=offset - 1, limit=1)
    event = next((each for each in page.items if each.offset == offset), None)
    if event is None:
        raise NotFound("event", str(offset))
    deliveries = await context.hub.engine.outcomes.deliveries(gateway_id, offset)
    outcomes = await context.hub.engine.outcomes.of_events(gateway_id, [offset])
    return EventDetail(
        **event.model_dump(),
        deliveries=_views(deliveries, outcomes),
        outcomes=[outcome_view(each) for each in outcomes],
    )


def _views(deliveries: Sequence[Delivery], outcomes: Sequence[Outcome]) -> list[DeliveryView]:
    """The deliveries, including replicas that only reported an outcome."""
    known = {each.replica for each in deliveries}
    forgotten = [DeliveryView(replica=each.replica, connection_id=None, pod_id=None, hops=[]) for each in outcomes]
    return [each for each in forgotten if each.replica not in known] + [
        DeliveryView(
            replica=each.replica,
            connection_id=each.connection_id,
            pod_id=each.pod_id,
            hops=[HopView(hop=hop.value, at=moment.at, within=moment.within) for hop, moment in each.hops.items()],
        )
        for each in deliveries
    ]
