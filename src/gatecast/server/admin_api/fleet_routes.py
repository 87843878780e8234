"""`/api/v1/fleet`, `/api/v1/pods` and `/api/v1/policies`: all gateways together, the pods, and what gateways offer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from gatecast.controlplane.policies.policy_catalogue import common_policies
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.fleet import FleetState
from gatecast.server.admin_api.models import WHOLE, Model
from gatecast.server.admin_api.named import gateway_ids
from gatecast.server.admin_api.paths import ListedGateway

router = APIRouter(prefix="/api/v1", tags=["fleet"])


class FleetView(Model):
    """The state of all gateways of your organization together. It may be a second old."""

    gateways: int
    connected: int
    states: dict[FleetState, int] = Field(
        description="How many are `current`, `behind`, have `rejected` something that waits for a decision, or need a "
        "`resync`; the worst state counts."
    )


class PodView(Model):
    """A pod whose lease has not expired."""

    pod_id: str
    version: str = Field(description="The release that it runs; empty if it does not report one.")
    started_at: datetime | None
    lease_seconds: float = Field(description="Seconds until its lease expires, unless it is renewed.")
    connections: int = Field(description="Connections of your organization's gateways.")


class PodList(Model):
    """The pods that live."""

    items: list[PodView]
    next: Annotated[None, Field(description=WHOLE)] = None


class PolicyView(Model):
    """A policy that every one of the gateways has loaded."""

    name: str
    version: str = Field(description="The newest version that all of them have.", examples=["v1.0.0"])
    description: str = ""
    parameters: dict[str, Any] = Field(description="JSON schema of its parameters, as a gateway announced it.")


class PolicyList(Model):
    """The policies that a set of gateways has in common."""

    items: list[PolicyView]
    silent: list[str] = Field(description="Gateways that have not announced anything yet: they offer nothing.")
    next: Annotated[None, Field(description=WHOLE)] = None


@router.get("/fleet")
async def show_fleet(context: Context, organization: Organization) -> FleetView:
    """How many gateways are in which state."""
    fleet = await context.fleets.look(organization)
    return FleetView(
        gateways=len(fleet.standings),
        connected=fleet.connected,
        states={state: fleet.states.get(state, 0) for state in FleetState},
    )


@router.get("/pods")
async def list_pods(context: Context, organization: Organization) -> PodList:
    """The live pods, with the number of connections from your gateways that each holds."""
    connections = (await context.fleets.look(organization)).connections_by_pod
    pods = await context.hub.engine.presence.pods()
    return PodList(
        items=[
            PodView(
                pod_id=each.pod_id,
                version=each.version,
                started_at=each.started_at,
                lease_seconds=round(each.lease_seconds, 3),
                connections=connections.get(each.pod_id, 0),
            )
            for each in pods
        ]
    )


@router.get("/policies")
async def list_policies(
    context: Context,
    organization: Organization,
    gateway: Annotated[
        list[ListedGateway], Query(min_length=1, max_length=100, description="Ids or names of gateways.")
    ],
) -> PolicyList:
    """The policies that all of these gateways have loaded, from their manifests, with their parameter schemas."""
    manifests = {}
    for gateway_id in await gateway_ids(context, organization, gateway):
        await context.gateways.get(organization, gateway_id)
        manifests[gateway_id] = await context.gateways.manifest(organization, gateway_id)
    silent = [gateway_id for gateway_id, manifest in manifests.items() if manifest is None]
    found = common_policies([each or {} for each in manifests.values()])
    return PolicyList(items=[PolicyView.model_validate(each, from_attributes=True) for each in found], silent=silent)
