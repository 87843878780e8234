"""`/api/v1/gateways`: gateways and their tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from gatecast.controlplane.access.gateways import GatewayFields, GatewayState
from gatecast.controlplane.deployments.artifacts import LastPublished
from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.errors import InvalidValue, Mistakes, NotFound, UnknownGateway
from gatecast.server.admin_api.artifact_models import (
    GatewayDeployments,
    ImportedArtifacts,
    gateway_deployment_view,
    imported_artifact_view,
)
from gatecast.server.admin_api.context import AdminContext, Context, Organization
from gatecast.server.admin_api.fleet import FleetFilter, FleetGateway, FleetState, Sort
from gatecast.server.admin_api.forwarding import log_made_soon
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.models import (
    GatewayChanges,
    GatewayPage,
    GatewaySummary,
    GatewayView,
    NewGateway,
    NewToken,
    TokenList,
    TokenView,
    WhyView,
)
from gatecast.server.admin_api.named import GatewayInPath
from gatecast.server.admin_api.paths import (
    CREATED,
    After,
    IfMatch,
    Limit,
    ResourceId,
    TokenId,
    etag_of,
    located,
    version_in,
)
from gatecast.server.admin_api.response_models import gateway_summary
from gatecast.server.admin_api.why import (
    explain,
    explain_unforwarded,
    why_manifest_refused,
    why_synchronizing,
    why_unanswered,
    why_unlisted,
    why_unrecovered,
)
from gatecast.storage.contract import GatewayStatus, ReadRequest

router = APIRouter(prefix="/api/v1/gateways", tags=["gateways"], route_class=JsonRoute)

#: With more waiting than this it is not looked up which deletions are among it.
_MAX_WAITING = 1_000
_MAX_WAITING_BYTES = 8 * 1024 * 1024


@router.post("", status_code=201, responses=CREATED)
async def create_gateway(
    body: NewGateway, context: Context, organization: Organization, response: Response
) -> GatewayView:
    """Register a gateway."""
    created = await context.gateways.create(organization, GatewayFields(**body.model_dump()))
    await log_made_soon(context, created.gateway.id)
    located(response, "gateways", created.gateway.id)
    return _shown(created, response, unforwarded=0)


@router.get("")
async def list_gateways(
    context: Context,
    organization: Organization,
    after: Annotated[
        str, Query(max_length=120, pattern=r"^[^\x00]*$", description="`next` of the previous page.")
    ] = "",
    limit: Limit = 100,
    search: Annotated[
        str, Query(max_length=120, pattern=r"^[^\x00]*$", description="A part of the name or display name.")
    ] = "",
    connected: Annotated[bool | None, Query(description="Only those that are, or are not, connected.")] = None,
    state: Annotated[FleetState | None, Query(description="Only gateways in this state.")] = None,
    sort: Annotated[
        Sort, Query(description="`lag`, `last-seen` and `state`: those that need attention most come first.")
    ] = Sort.NAME,
) -> GatewayPage:
    """A page of gateways. With a filter, or sorted by another field than the name, it may be a second old."""
    wanted = FleetFilter(text=search, connected=connected, state=state)
    if sort is Sort.NAME and wanted == FleetFilter():
        return await _by_name(context, organization, after, limit)
    found = (await context.fleets.look(organization)).matching(wanted, sort=sort)
    if sort is Sort.NAME:
        begin = bisect_right(found, after, key=lambda each: each.gateway.name)
    else:
        # The sort keys change all the time, so its pages continue by number.
        begin = int(after) if after.isascii() and after.isdigit() else 0
    shown, following = found[begin : begin + limit], begin + limit
    last = (shown[-1].gateway.name if sort is Sort.NAME else str(following)) if following < len(found) else None
    return GatewayPage(items=await summaries_of(context, organization, shown), next=last)


async def _by_name(context: AdminContext, organization: str, after: str, limit: int) -> GatewayPage:
    gateways = await context.gateways.page(organization, after=after, limit=limit + 1)
    waiting, status = await _waiting_and_status(context, [gateway.id for gateway in gateways])
    shown = [
        gateway_summary(gateway, status[gateway.id], unforwarded=waiting.get(gateway.id, 0))
        for gateway in gateways[:limit]
        if gateway.id in status
    ]
    return GatewayPage(items=shown, next=gateways[limit - 1].fields.name if len(gateways) > limit else None)


async def summaries_of(
    context: AdminContext, organization: str, standings: Sequence[FleetGateway]
) -> list[GatewaySummary]:
    """These gateways as they are now, without those that were deleted meanwhile."""
    ids = [each.id for each in standings]
    gateways = await context.gateways.those(organization, ids)
    waiting, status = await _waiting_and_status(context, ids)
    return [
        gateway_summary(gateways[each], status[each], unforwarded=waiting.get(each, 0))
        for each in ids
        if each in gateways and each in status
    ]


async def _waiting_and_status(
    context: AdminContext, gateway_ids: Sequence[str]
) -> tuple[Mapping[str, int], Mapping[str, GatewayStatus]]:
    """How many events of each of these gateways wait in the outbox, and the status of each in the log."""
    # The outbox first: an event that is forwarded in between counts twice. Otherwise it would count nowhere.
    waiting = await context.hub.unforwarded_of(gateway_ids)
    return waiting, await context.hub.status(gateway_ids)


@router.get("/{gateway_id}")
async def show_gateway(
    gateway_id: GatewayInPath, context: Context, organization: Organization, response: Response
) -> GatewayView:
    """One gateway: its connections, its position, and how far it is behind."""
    gateway = await context.gateways.get(organization, gateway_id)
    manifest = await context.gateways.manifest(organization, gateway_id)
    # The outbox first, as for lists.
    waiting = await context.hub.unforwarded_of([gateway_id])
    state = GatewayState(gateway=gateway, manifest=manifest, status=await status_of(context, gateway_id))
    return _shown(state, response, unforwarded=waiting.get(gateway_id, 0))


@router.patch("/{gateway_id}")
async def change_gateway(
    gateway_id: GatewayInPath,
    body: GatewayChanges,
    context: Context,
    organization: Organization,
    response: Response,
    if_match: IfMatch = None,
) -> GatewayView:
    """Change the fields that the body names, and no others.

    With an outbox, and while the log is away, the answer shows neither connections nor events.
    """
    changes = body.model_dump(exclude_unset=True)
    mistakes = Mistakes()
    for name, value in changes.items():
        if value is None:
            mistakes.note(InvalidValue(name, None, "not be null; leave it out to keep it"))
    mistakes.raise_any()
    waiting = await context.hub.unforwarded_of([gateway_id])
    changed = await context.gateways.update(organization, gateway_id, changes, version=version_in(if_match))
    return _shown(changed, response, unforwarded=waiting.get(gateway_id, 0))


@router.delete("/{gateway_id}", status_code=204)
async def delete_gateway(
    gateway_id: GatewayInPath, context: Context, organization: Organization, if_match: IfMatch = None
) -> None:
    """Delete a gateway, its tokens and its log, and close its connections on every pod."""
    await context.gateways.delete(organization, gateway_id, version=version_in(if_match))


@router.get("/{gateway_id}/why")
async def explain_gateway(gateway_id: GatewayInPath, context: Context, organization: Organization) -> WhyView:
    """Why a gateway is, or is not, up to date."""
    gateway = await context.gateways.get(organization, gateway_id)
    # Before the log is asked, which may be away.
    if (unforwarded := await explain_unforwarded(context.hub, gateway_id)) is not None:
        return unforwarded
    status = await status_of(context, gateway_id)
    if gateway.unrecovered and status.resync_reason is None:
        return why_unrecovered(gateway.unrecovered)
    seen = await context.control_plane.synchronizations.of_gateway(gateway_id)
    if status.resync_reason is None and (synchronizing := why_synchronizing(seen, status)) is not None:
        return synchronizing
    view = await explain(context.hub.engine, status)
    if view.code == "current":
        placed = await context.control_plane.artifacts.on_gateway(gateway_id)
        if gateway.unlisted and seen is not None:
            # A client that makes no start-up calls runs nothing that it would have to name.
            return why_unlisted(gateway.unlisted, placed)
        return why_unanswered(placed, now=milliseconds()) or why_manifest_refused(gateway.manifest_fault) or view
    return view


@router.post("/{gateway_id}/resynchronized", status_code=204)
async def note_resynchronized(gateway_id: GatewayInPath, context: Context, organization: Organization) -> None:
    """Record that a gateway has the desired state again, for one that cannot report it: it was restarted or set up."""
    await context.gateways.get(organization, gateway_id)
    presence = context.hub.engine.presence
    if (reason := (await presence.standing(gateway_id, "")).resync_reason) is not None:
        await presence.resynchronized(gateway_id, "", reason)
    await context.control_plane.foreign_events.made_good(gateway_id)


@router.get("/{gateway_id}/deployments")
async def list_gateway_deployments(
    gateway_id: GatewayInPath, context: Context, organization: Organization, after: After = "", limit: Limit = 100
) -> GatewayDeployments:
    """A page of what was last published to a gateway for each artifact, even a deleted one, and its acknowledgement."""
    await context.gateways.get(organization, gateway_id)
    found = await context.control_plane.artifacts.last_published_on_gateway(gateway_id, after=after, limit=limit + 1)
    handled = await _handled(context, gateway_id, [each for each in found[:limit] if each.deployment is None])
    items = [gateway_deployment_view(each) for each in found[:limit] if each not in handled]
    return GatewayDeployments(items=items, next=found[limit - 1].artifact_id if len(found) > limit else None)


async def _handled(context: AdminContext, gateway_id: str, deleted: Sequence[LastPublished]) -> list[LastPublished]:
    """Deletions that the gateway has confirmed: the control plane forgets them when the gateway reconnects."""
    if not deleted:
        return []
    confirmed = (await status_of(context, gateway_id)).confirmed
    queue = await context.hub.unforwarded(gateway_id)
    [result] = await context.hub.engine.log.read(
        [ReadRequest(gateway_id=gateway_id, after=confirmed, max_events=_MAX_WAITING, max_bytes=_MAX_WAITING_BYTES)]
    )
    is_whole = result is not None and (result.events[-1].offset if result.events else confirmed) >= result.head
    if result is None or not is_whole or not queue.is_complete:
        # Too much waits to tell; what may wait counts as waiting.
        return []
    waiting = {str(event_id) for event_id in (*queue.event_ids, *(event.event_id for event in result.events))}
    return [each for each in deleted if each.event_id not in waiting]


@router.get("/{gateway_id}/imported-artifacts")
async def list_imported_artifacts(
    gateway_id: GatewayInPath, context: Context, organization: Organization, after: After = "", limit: Limit = 100
) -> ImportedArtifacts:
    """A page of the gateway-owned artifacts of a gateway, without their configuration, which may hold credentials."""
    await context.gateways.get(organization, gateway_id)
    found = await context.control_plane.imports.of_gateway(gateway_id, after=after, limit=limit + 1)
    items = [imported_artifact_view(each) for each in found[:limit]]
    return ImportedArtifacts(items=items, next=items[-1].id if len(found) > limit else None)


@router.delete("/{gateway_id}/connections/{connection_id}", status_code=204)
async def disconnect_gateway(
    gateway_id: GatewayInPath,
    connection_id: ResourceId,
    context: Context,
    organization: Organization,
) -> None:
    """Close one connection, on any pod. The gateway reconnects by itself, and nothing is lost."""
    await context.gateways.get(organization, gateway_id)
    if not await context.hub.engine.presence.disconnect_connection(gateway_id, connection_id):
        raise NotFound("connection", connection_id)


# --- tokens -----------------------------------------------------------------------------------------------------------


@router.post("/{gateway_id}/tokens", status_code=201, responses=CREATED)
async def create_token(
    gateway_id: GatewayInPath, context: Context, organization: Organization, response: Response
) -> NewToken:
    """Create a token. It is shown only once. A gateway has at most two active tokens."""
    issued = await context.tokens.issue(organization, gateway_id)
    located(response, "gateways", gateway_id, "tokens", issued.id)
    return NewToken(id=issued.id, token=issued.token, prefix=issued.prefix)


@router.get("/{gateway_id}/tokens")
async def list_tokens(gateway_id: GatewayInPath, context: Context, organization: Organization) -> TokenList:
    """A gateway's tokens, without their secrets."""
    await context.gateways.get(organization, gateway_id)
    tokens = await context.tokens.of_gateway(gateway_id)
    return TokenList(
        items=[
            TokenView(
                id=token.id,
                prefix=token.prefix,
                created_at=token.created_at,
                last_used_at=token.last_used_at,
                revoked_at=token.revoked_at,
            )
            for token in tokens
        ]
    )


@router.delete("/{gateway_id}/tokens/{token_id}", status_code=204)
async def revoke_token(
    gateway_id: GatewayInPath, token_id: TokenId, context: Context, organization: Organization
) -> None:
    """Revoke a token. Every pod closes its connections."""
    await context.gateways.get(organization, gateway_id)
    await context.tokens.revoke(gateway_id, token_id)


async def status_of(context: AdminContext, gateway_id: str) -> GatewayStatus:
    """The delivery status of a gateway.

    Raises:
        UnknownGateway: it was deleted meanwhile.
    """
    status = await context.hub.status([gateway_id])
    if gateway_id not in status:
        raise UnknownGateway(gateway_id)
    return status[gateway_id]


def _shown(state: GatewayState, response: Response, *, unforwarded: int) -> GatewayView:
    response.headers["ETag"] = etag_of(state.gateway.version)
    return GatewayView(
        **dict(gateway_summary(state.gateway, state.status, unforwarded=unforwarded)),
        manifest=dict(state.manifest) if state.manifest is not None else None,
        manifest_fault=state.gateway.manifest_fault or None,
    )
