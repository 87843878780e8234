"""The list of gateways, and the form that adds one."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from gatecast.controlplane.gateways import GatewayFields, GatewayType
from gatecast.errors import Conflict, InvalidValue
from gatecast.server.admin_api.context import Context
from gatecast.server.console.fleet import Standing, look
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: Rows of one page.
_ROWS = 50


@router.get("/gateways")
async def list_gateways(
    request: Request,
    context: Context,
    visitor: Visitor,
    q: Annotated[str, Query(max_length=120)] = "",
    connection: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    start: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """The gateways that match."""
    standings = await look(context, visitor.organization)
    matching = [each for each in standings if _matches(each, q, connection, state)]
    shown = matching[start : start + _ROWS]
    filters = {name: value for name, value in (("q", q), ("connection", connection), ("state", state)) if value}
    following = start + _ROWS
    return page(
        request,
        "gateways.html",
        found=shown,
        matching=len(matching),
        total=len(standings),
        q=q,
        connection=connection,
        state=state,
        here=f"/gateways?{urlencode({**filters, 'start': start})}",
        next=f"/gateways?{urlencode({**filters, 'start': following})}" if following < len(matching) else "",
    )


def _matches(standing: Standing, text: str, connection: str, state: str) -> bool:
    fields = standing.gateway.fields
    return (
        text.casefold() in f"{fields.name} {fields.display_name}".casefold()
        and connection in ("", "connected" if standing.connected else "offline")
        and state in ("", standing.state)
    )


@router.get("/gateways/new")
async def show_form(request: Request, visitor: Visitor) -> Response:
    """The form that adds a gateway."""
    del visitor
    return _form(request, {"name": "", "display_name": "", "vhost": "", "type": "regular"}, {})


@router.post("/gateways/new")
async def add_gateway(request: Request, context: Context, visitor: Visitor) -> Response:
    """Add it, or show what is wrong."""
    form = await request.form()
    values = {name: str(form.get(name, "")) for name in ("name", "display_name", "vhost", "type")}
    if form.get("intent") == "review":
        return _form(request, values, {})
    try:
        fields = GatewayFields(
            name=values["name"],
            display_name=values["display_name"],
            vhost=values["vhost"],
            type=GatewayType.AI if values["type"] == GatewayType.AI else GatewayType.REGULAR,
        )
        gateway = await context.gateways.create(visitor.organization, fields)
    except (Conflict, InvalidValue) as error:
        return _form(request, values, {error.field or "name": str(error)}, status=422)
    return RedirectResponse(f"/gateways/{gateway.id}", 303, SECURITY_HEADERS)


def _form(request: Request, values: dict[str, str], errors: dict[str, str], *, status: int = 200) -> Response:
    return page(request, "gateway_new.html", status=status, values=values, errors=errors, problem="")
