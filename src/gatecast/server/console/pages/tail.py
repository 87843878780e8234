"""The live tail, and the streams that pages follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from gatecast.controlplane.deployments.placements import Deployment
from gatecast.errors import NotFound, StorageError
from gatecast.events import Action
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.fleet_routes import PolicyList, list_policies
from gatecast.server.admin_api.stream import HEARTBEAT, STILL_HERE, EventStream, follow
from gatecast.server.admin_api.stream_position import MAX_LENGTH
from gatecast.server.admin_api.why import why
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, NotLoggedIn, Visitor, visitor_of
from gatecast.storage.contract import GatewayStatus

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: How often a page's stream looks whether something has changed, in seconds.
_INTERVAL = 1.0

#: Says that the stream is alive, and nothing has changed that it watches; browsers do not show comments to a page.
_ALIVE = "event: alive\ndata: \n\n"

_GatewayQuery = Annotated[str, Query(max_length=255)]


@router.get("/tail")
async def show_tail(request: Request, context: Context, visitor: Visitor, gateway: _GatewayQuery = "") -> Response:
    """The page that follows events."""
    gateways = await context.gateways.page(visitor.organization, after="", limit=500)
    names = {each.id: each.fields.name for each in gateways}
    return page(
        request,
        "tail.html",
        gateways=gateways,
        names=names,
        actions=[each.value for each in Action],
        chosen=gateway,
        chosen_name=names.get(gateway, ""),
    )


@router.get("/console/stream")
async def stream_events(
    request: Request,
    context: Context,
    visitor: Visitor,
    gateway: _GatewayQuery = "",
    last_event_id: Annotated[str, Header(max_length=MAX_LENGTH)] = "",
    position: Annotated[str, Query(max_length=MAX_LENGTH)] = "",
) -> StreamingResponse:
    """The stream of the admin API for a logged-in visitor; a page that was paused sends the position to resume from."""
    last_id = last_event_id or position
    stream = await follow(context, visitor.organization, gateway, last_id, lambda: _is_still(request, context))
    stream.body_iterator = _heard(stream.body_iterator)
    return stream


async def _heard(messages: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """The same stream, with comments as messages, so that a page can tell silence from a stalled pod."""
    async for message in messages:
        yield _ALIVE if message == STILL_HERE else message


@router.get("/console/policies")
async def offered_policies(
    context: Context, visitor: Visitor, gateway: Annotated[list[str], Query(min_length=1, max_length=100)]
) -> PolicyList:
    """The policies that all of these gateways have loaded, for the form that adds a provider."""
    return await list_policies(context, visitor.organization, gateway)


@dataclass(frozen=True, slots=True)
class _Watched:
    """What a page follows: the fleet and its deployments, only deployments, or one gateway."""

    organization: str
    gateway_id: str = ""
    only_deployments: bool = False


@router.get("/live")
async def stream_changes(
    request: Request,
    context: Context,
    visitor: Visitor,
    gateway: _GatewayQuery = "",
    *,
    deployments: bool = False,
) -> StreamingResponse:
    """Says `changed` whenever what a page shows is another, and `away` and `back` of the database."""
    watched = _Watched(visitor.organization, gateway, only_deployments=deployments)
    return EventStream(context, _changes(request, context, watched))


async def _changes(request: Request, context: AdminContext, watched: _Watched) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    before: int | None = None
    said_at = seen_at = loop.time()
    away = False
    while not context.stopping.is_set() and await _is_still(request, context):
        try:
            now: int | None = await _fingerprint(context, watched)
        except NotFound:
            # Deleted: the page asks, and learns that.
            now, seen_at = 0, loop.time()
        except StorageError:
            now = before
            if not away:
                away, said_at = True, loop.time()
                yield f"event: away\ndata: {said_at - seen_at:.0f}\n\n"
        else:
            seen_at = loop.time()
            if away:
                away = False
                yield "event: back\ndata: \n\n"
        # The first look says so, too: something may have changed since the page was made, or while it had no stream.
        if now != before:
            said_at = loop.time()
            yield "event: changed\ndata: \n\n"
        elif loop.time() - said_at > HEARTBEAT:
            said_at = loop.time()
            yield _ALIVE
        before = now
        await context.pause(_INTERVAL)


async def _fingerprint(context: AdminContext, watched: _Watched) -> int:
    """Another number whenever something has changed that the page should show at once.

    The rest (ages, tokens, manifests, pods) it shows when it hears that the stream is alive, and asks again.
    """
    if watched.gateway_id:
        gateway = await context.gateways.get(watched.organization, watched.gateway_id)
        status = await context.hub.status([watched.gateway_id])
        found = await context.control_plane.artifacts.on_gateway(watched.gateway_id)
        placed = [_state(each.deployment) for each in found]
        return hash(repr((gateway, [_visible(each) for each in status.values()], placed)))
    deployments = (await context.deployments.look(watched.organization)).fingerprint
    if watched.only_deployments:
        return deployments
    return hash(((await context.fleets.look(watched.organization)).fingerprint, deployments))


def _state(deployment: Deployment) -> tuple[str, str]:
    return deployment.id, deployment.state


def _visible(status: GatewayStatus) -> tuple[object, ...]:
    # Time alone changes the code, too.
    code = why(status, rejected=None, held=False).code
    return status.head, status.sent, status.confirmed, status.resync_reason, status.connections, code


async def _is_still(request: Request, context: AdminContext) -> bool:
    """Whether the visitor may still follow; true while that is unknown."""
    try:
        await visitor_of(request, context)
    except NotLoggedIn:
        return False
    except StorageError:
        return True
    return True
