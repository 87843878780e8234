"""The overview: how many gateways are in each state, and what needs attention."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from gatecast.controlplane.deployments.artifact_search import IN_FLIGHT, ArtifactFilter, ArtifactSort
from gatecast.errors import NotFound, UnknownGateway
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.fleet import Fleet, FleetFilter, FleetGateway, FleetState, Sort
from gatecast.server.admin_api.fleet_history import FleetHistory, show_fleet_history
from gatecast.server.admin_api.fleet_routes import list_pods
from gatecast.server.admin_api.gateways import explain_gateway
from gatecast.server.admin_api.models import WhyView
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: So many gateways that need attention are listed.
_LISTED = 20

#: So many changes that have not arrived everywhere are listed.
_IN_FLIGHT = 8

#: How grave a cause is, by its code; what is not named is a warning.
TONES = {
    "current": "good",
    "rejected": "bad",
    "undeliverable": "bad",
    "resync-needed": "bad",
    "not-confirming": "bad",
    "offline": "quiet",
}


#: The remedy for a cause, and its place on the gateway's page.
_HELP = {
    "rejected": ("Retry or skip", "parked"),
    "undeliverable": ("Retry or skip", "parked"),
    "offline": ("How it connects", "enrol"),
    "not-confirming": ("Look at its connections", "connections"),
    "slow": ("Look at its connections", "connections"),
    "not-acknowledged": ("Look at what it runs", "runs"),
    "synchronizing": ("Look at its connections", "connections"),
}


@dataclass(frozen=True, slots=True)
class Attention:
    """A gateway that needs attention, and why."""

    standing: FleetGateway
    why: WhyView

    @property
    def tone(self) -> str:
        """How grave it is."""
        return TONES.get(self.why.code, "warn")

    @property
    def help(self) -> tuple[str, str]:
        """The remedy, and the part of the gateway's page for it."""
        return _HELP.get(self.why.code, ("Look at it", "delivery"))


@router.get("/")
async def show_overview(request: Request, context: Context, visitor: Visitor) -> Response:
    """The first page."""
    fleet = await context.fleets.look(visitor.organization)
    counts = {"all": len(fleet.standings), "connected": fleet.connected, **{state.value: 0 for state in FleetState}}
    attention, not_well = await _attention(context, visitor.organization, fleet)
    pods = await list_pods(context, visitor.organization)
    in_flight = await context.control_plane.search.artifacts(
        visitor.organization, ArtifactFilter(states=IN_FLIGHT), sort=ArtifactSort.CHANGED, limit=_IN_FLIGHT
    )
    return page(
        request,
        "overview.html",
        counts={**counts, **fleet.states},
        attention=attention,
        not_well=not_well,
        pods=pods.items,
        in_flight=in_flight,
    )


async def _attention(context: AdminContext, organization: str, fleet: Fleet) -> tuple[list[Attention], int]:
    """The gateways that are not current, or not connected, the worst first; and their number."""
    gravest = fleet.matching(FleetFilter(), sort=Sort.STATE)
    wanted = [each for each in gravest if each.state is not FleetState.CURRENT or not each.connected]
    found = []
    for each in wanted[:_LISTED]:
        # The fleet is as it was some seconds ago: since then some may have caught up, or were deleted.
        with suppress(NotFound, UnknownGateway):
            found.append(Attention(each, await explain_gateway(each.id, context, organization)))
    return [each for each in found if each.why.code != "current"], len(wanted)


@router.get("/console/history")
async def history(context: Context, visitor: Visitor) -> FleetHistory:
    """The data of the overview's charts: the last hour."""
    return await show_fleet_history(context, visitor.organization, minutes=60)
