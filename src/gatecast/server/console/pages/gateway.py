"""One gateway: its delivery, its deployments, its tokens and its log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from gatecast.controlplane.catalog.artifact_kinds import BY_KIND
from gatecast.controlplane.documents import derive_handle
from gatecast.errors import NotFound
from gatecast.server.admin_api import event_hops
from gatecast.server.admin_api import events as events_api
from gatecast.server.admin_api import gateways as gateways_api
from gatecast.server.admin_api import parking as parking_api
from gatecast.server.admin_api.artifact_models import checked
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.event_hops import Offset
from gatecast.server.admin_api.models import EventView, ParkedEntityName, TokenView
from gatecast.server.admin_api.paths import ResourceId, TokenId
from gatecast.server.console.pages.overview import TONES
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import ConsoleRoute, GatewayOfPage, Visitor
from gatecast.server.console.waterfall import now, waterfall

router = APIRouter(prefix="/gateways/{gateway_id}", route_class=ConsoleRoute, include_in_schema=False)

#: Number of the newest events that are shown, and that are searched for others of the same entity.
_NEWEST = 25
_NEIGHBOURHOOD = 100


@router.get("")
async def show_gateway(request: Request, context: Context, visitor: Visitor, gateway_id: GatewayOfPage) -> Response:
    """Everything about it."""
    return _page(request, context, await _read(context, visitor.organization, gateway_id))


async def _read(context: AdminContext, organization: str, gateway_id: str) -> dict[str, Any]:
    gateway = await gateways_api.show_gateway(gateway_id, context, organization, Response())
    why = await gateways_api.explain_gateway(gateway_id, context, organization)
    tokens = (await gateways_api.list_tokens(gateway_id, context, organization)).items
    return {
        "gateway": gateway,
        "why": why,
        "deployments": (await gateways_api.list_gateway_deployments(gateway_id, context, organization)).items,
        "parked": (await parking_api.list_parked(gateway_id, context, organization)).items,
        "events": await _newest(context, organization, gateway_id, gateway.position.head),
        "tokens": tokens,
    }


def _page(request: Request, context: AdminContext, read: Mapping[str, Any], *, secret: str = "") -> Response:
    """The page, with a token that was just created."""
    gateway_host = _gateway_host(
        context.gateway_address or context.settings.gateway_listen, request.url.hostname or "localhost"
    )
    return page(
        request,
        "gateway.html",
        **read,
        why_tone=TONES.get(read["why"].code, "warn"),
        active_tokens=sum(token.revoked_at is None for token in read["tokens"]),
        secret=secret,
        collections={kind.value: artifact_kind.collection for kind, artifact_kind in BY_KIND.items()},
        nouns={kind.value: artifact_kind.noun for kind, artifact_kind in BY_KIND.items()},
        gateway_host=gateway_host,
        enrolment=Enrolment(
            host=gateway_host,
            token=secret or "the token",
            name=read["gateway"].name,
            self_made_certificate=context.settings.gateway_tls == "auto",
        ),
        secret_name=f"gatecast-{derive_handle(read['gateway'].name)}"[:63].rstrip("-"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The configuration with which a gateway-controller connects as this gateway."""

    host: str
    token: str
    name: str
    self_made_certificate: bool

    @property
    def file(self) -> str:
        """Its configuration file."""
        # A string of JSON is one of TOML.
        host, token, name = (json.dumps(each, ensure_ascii=False) for each in (self.host, self.token, self.name))
        return (
            f"[controller.controlplane]\nhost = {host}\ntoken = {token}\n"
            f"insecure_skip_verify = {str(self.self_made_certificate).lower()}\ndeployment_sync_enabled = true\n\n"
            f"[controller.server]\ngateway_id = {name}"
        )

    @property
    def in_shell(self) -> str:
        """The same as a here-document, with the token from the environment."""
        return re.sub(r"([\\$`])", r"\\\1", replace(self, token=_TOKEN).file).replace(_TOKEN, "$GATEWAY_TOKEN")


#: Stands for the token until everything around it is made harmless for a shell.
_TOKEN = "GATEWAY-TOKEN"  # noqa: S105 - none


def _gateway_host(listen: str, host: str) -> str:
    """Where gateways connect; a pod that listens on every address is where the browser has found it."""
    address, _, port = listen.rpartition(":")
    return f"{host}:{port}" if address in ("", "0.0.0.0", "[::]", "::") else listen  # noqa: S104 - read, not listened on


async def _newest(context: AdminContext, organization: str, gateway_id: str, head: int) -> list[EventView]:
    found = await events_api.list_events(gateway_id, context, organization, max(0, head - _NEWEST), _NEWEST)
    return found.items[::-1]


@router.post("/connections/{connection_id}/disconnect")
async def disconnect_gateway(
    context: Context, visitor: Visitor, gateway_id: GatewayOfPage, connection_id: ResourceId
) -> Response:
    """Close one connection; the gateway comes back by itself."""
    await gateways_api.disconnect_gateway(gateway_id, connection_id, context, visitor.organization)
    return _back(gateway_id)


@router.post("/tokens")
async def create_token(request: Request, context: Context, visitor: Visitor, gateway_id: GatewayOfPage) -> Response:
    """A new token, shown once."""
    # Read before: once the token is made, no failure may keep it from the visitor.
    read = await _read(context, visitor.organization, gateway_id)
    issued = await context.tokens.issue(visitor.organization, gateway_id)
    new = TokenView(
        id=issued.id, prefix=issued.prefix, created_at=datetime.now(UTC), last_used_at=None, revoked_at=None
    )
    return _page(request, context, {**read, "tokens": [*read["tokens"], new]}, secret=issued.token)


@router.post("/tokens/{token_id}/revoke")
async def revoke_token(context: Context, visitor: Visitor, gateway_id: GatewayOfPage, token_id: TokenId) -> Response:
    """Revoke a token."""
    await gateways_api.revoke_token(gateway_id, token_id, context, visitor.organization)
    return _back(gateway_id)


@router.post("/parked/retry")
async def retry_parked(request: Request, context: Context, visitor: Visitor, gateway_id: GatewayOfPage) -> Response:
    """Let the gateway try again what it rejected."""
    await parking_api.retry_parked(gateway_id, await _entity_in(request), request, context, visitor.organization)
    return _back(gateway_id)


@router.post("/parked/skip")
async def skip_parked(request: Request, context: Context, visitor: Visitor, gateway_id: GatewayOfPage) -> Response:
    """Leave out what the gateway rejected."""
    await parking_api.skip_parked(gateway_id, await _entity_in(request), request, context, visitor.organization)
    return _back(gateway_id)


async def _entity_in(request: Request) -> ParkedEntityName:
    form = await request.form(max_files=0)
    return checked(ParkedEntityName, {name: form.get(name, "") for name in ("entity_type", "entity_id", "replica")})


@router.post("/delete")
async def delete_gateway(context: Context, visitor: Visitor, gateway_id: GatewayOfPage) -> Response:
    """Delete the gateway."""
    await gateways_api.delete_gateway(gateway_id, context, visitor.organization)
    return RedirectResponse("/gateways", 303, SECURITY_HEADERS)


@router.get("/events/{offset}")
async def show_event(
    request: Request, context: Context, visitor: Visitor, gateway_id: GatewayOfPage, offset: Offset
) -> Response:
    """One event: how far it has come, and what it says."""
    organization = visitor.organization
    gateway = await context.gateways.get(organization, gateway_id)
    try:
        event = await event_hops.show_event(gateway_id, offset, context, organization)
    except NotFound:
        return page(
            request,
            "problem.html",
            status=404,
            title="This event is not in the log",
            detail="Retention has removed it, or it was never recorded.",
            kind="missing",
            again=None,
        )
    first = max(0, offset - 1 - _NEIGHBOURHOOD // 2)
    found = (await events_api.list_events(gateway_id, context, organization, first, _NEIGHBOURHOOD)).items
    same = [each for each in found if each.entity_id == event.entity_id and each.entity_type == event.entity_type]
    return page(
        request,
        "event.html",
        gateway=gateway,
        event=event,
        way=waterfall(event, now()),
        head=(await gateways_api.status_of(context, gateway_id)).head,
        neighbours=[each for each in same if each.offset != offset],
    )


def _back(gateway_id: str) -> Response:
    return RedirectResponse(f"/gateways/{gateway_id}", 303, SECURITY_HEADERS)
