"""The list of gateways, and the form that adds one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.responses import RedirectResponse

from gatecast.controlplane.access.gateways import GatewayFields, GatewayType
from gatecast.errors import Conflict, InvalidValue
from gatecast.server.admin_api.bulk import BulkAction, BulkView, NewBulk, act, matching
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.fleet import FleetFilter, FleetGateway, FleetState, Sort
from gatecast.server.admin_api.gateways import summaries_of
from gatecast.server.admin_api.models import GatewaySummary
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
    sort: Annotated[str, Query(max_length=20)] = Sort.NAME,
    start: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """The gateways that match."""
    fleet = await context.fleets.look(visitor.organization)
    wanted = FleetFilter(
        text=q,
        connected={"connected": True, "offline": False}.get(connection),
        state=FleetState(state) if state in list(FleetState) else None,
    )
    matching = fleet.matching(wanted, sort=Sort(sort) if sort in list(Sort) else Sort.NAME)
    filters = {"q": q, "connection": connection, "state": state, "sort": sort}
    following = start + _ROWS
    return page(
        request,
        "gateways.html",
        rows=await _rows(context, visitor.organization, matching[start:following]),
        matching=len(matching),
        total=len(fleet.standings),
        start=start,
        q=q,
        connection=connection,
        state=state,
        sort=sort,
        here=_address(filters, start),
        bulk=f"/gateways/bulk?{urlencode({'q': q, 'connection': connection, 'state': state})}",
        sorted={each.value: _address({**filters, "sort": each}, 0) for each in Sort},
        previous=_address(filters, max(0, start - _ROWS)) if start else "",
        next=_address(filters, following) if following < len(matching) else "",
    )


async def _rows(
    context: AdminContext, organization: str, standings: Sequence[FleetGateway]
) -> list[tuple[FleetGateway, GatewaySummary]]:
    """The gateways of a page, as they are now."""
    shown = {each.id: each for each in await summaries_of(context, organization, standings)}
    return [(standing, shown[standing.id]) for standing in standings if standing.id in shown]


_BULK = {
    BulkAction.DISCONNECT: "Disconnect: close every connection; the gateways reconnect by themselves",
    BulkAction.RETRY_PARKED: "Retry what they rejected, with everything that waits for it",
    BulkAction.SKIP_PARKED: "Skip what they rejected, and send what waits for it",
    BulkAction.RESYNCHRONIZED: "Record that they have the desired state again",
}


@router.get("/gateways/bulk")
async def show_bulk(
    request: Request,
    context: Context,
    visitor: Visitor,
    q: Annotated[str, Query(max_length=120)] = "",
    connection: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """The actions for all matching gateways, and their number."""
    values = {"q": q, "connection": connection, "state": state, "action": "", "expected": "", "after": ""}
    return await _bulk(request, context, visitor.organization, values)


@router.post("/gateways/bulk")
async def act_on_gateways(request: Request, context: Context, visitor: Visitor) -> Response:
    """Do it, or say why not."""
    form = await request.form(max_files=0)
    # As long as the fields take: a longer text matches nothing.
    values = {
        name: str(form.get(name, ""))[:120] for name in ("q", "connection", "state", "action", "expected", "after")
    }
    if form.get("intent") == "review":
        return await _bulk(request, context, visitor.organization, values)
    try:
        result = await act(request, context, visitor.organization, _new_bulk(values))
    except ValidationError:
        problem = "Choose an action, and type the number of matching gateways."
        return await _bulk(request, context, visitor.organization, values, problem=problem, status=422)
    except Conflict as error:
        return await _bulk(request, context, visitor.organization, values, problem=str(error), status=409)
    values = {**values, "after": result.next or "", "expected": ""}
    return await _bulk(request, context, visitor.organization, values, result=result)


def _new_bulk(values: dict[str, str], **changes: object) -> NewBulk:
    connected = {"connected": True, "offline": False}.get(values["connection"])
    given = {
        "action": values["action"],
        "expected": values["expected"].replace(",", "").strip(),
        "search": values["q"],
        "connected": connected,
        "state": values["state"] or None,
        "after": values["after"],
    }
    return NewBulk.model_validate(given | changes)


async def _bulk(
    request: Request,
    context: AdminContext,
    organization: str,
    values: dict[str, str],
    *,
    problem: str = "",
    result: BulkView | None = None,
    status: int = 200,
) -> Response:
    if values["state"] not in list(FleetState):
        values = {**values, "state": ""}
    found = await matching(context, organization, _new_bulk(values, action=BulkAction.DISCONNECT, expected=0))
    return page(
        request,
        "gateways_bulk.html",
        status=status,
        values=values,
        count=len(found),
        some=found[:10],
        actions=_BULK,
        problem=problem,
        result=result,
        back=_address({name: values[name] for name in ("q", "connection", "state")}, 0),
    )


def _address(filters: dict[str, str], start: int) -> str:
    given = {name: value for name, value in filters.items() if value}
    return f"/gateways?{urlencode({**given, 'start': start})}"


@router.get("/gateways/new")
async def show_form(request: Request, visitor: Visitor) -> Response:
    """The form that adds a gateway."""
    del visitor
    return _form(request, {"name": "", "display_name": "", "vhost": "", "type": "regular"}, {})


@router.post("/gateways/new", operation_id="createGateway")
async def add_gateway(request: Request, context: Context, visitor: Visitor) -> Response:
    """Add it, or show what is wrong."""
    form = await request.form(max_files=0)
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
        created = await context.gateways.create(visitor.organization, fields)
    except (Conflict, InvalidValue) as error:
        return _form(request, values, {error.field or "name": str(error)}, status=422)
    return RedirectResponse(f"/gateways/{created.gateway.id}", 303, SECURITY_HEADERS)


def _form(request: Request, values: dict[str, str], errors: dict[str, str], *, status: int = 200) -> Response:
    return page(request, "gateway_new.html", status=status, values=values, errors=errors, problem="")
