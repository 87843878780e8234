"""Events that match, in the log of one gateway."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from gatecast.errors import InvalidValue, NotFound
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.lists import FoundEventsPage, search_events
from gatecast.server.admin_api.models import EventState
from gatecast.server.admin_api.named import gateway_ids
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: Rows of one page, and gateways whose names are offered.
_ROWS, _OFFERED = 50, 100

_STATES: tuple[EventState, ...] = ("stored", "confirmed", "applied", "rejected")

_Text = Annotated[str, Query(max_length=255, pattern=r"^[^\x00]*$")]
_Moment = Annotated[str, Query(max_length=32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The search, as it was typed."""

    gateway: str
    type: str
    entity_type: str
    entity: str
    state: str
    since: str
    until: str
    before: str

    def query(self, **changes: str) -> str:
        """The same in an address."""
        values = {name: getattr(self, name) for name in self.__slots__} | changes
        return urlencode({name: value for name, value in values.items() if value})


async def _wanted(
    gateway: _Text = "",
    type: _Text = "",  # noqa: A002 - as events call it
    entity_type: _Text = "",
    entity: _Text = "",
    state: Annotated[str, Query(max_length=20)] = "",
    since: _Moment = "",
    until: _Moment = "",
    before: Annotated[str, Query(max_length=19, pattern=r"^\d*$")] = "",
) -> _Wanted:
    return _Wanted(
        gateway=gateway.strip(),
        type=type,
        entity_type=entity_type,
        entity=entity,
        state=state,
        since=since,
        until=until,
        before=before,
    )


@router.get("/events")
async def show_events(
    request: Request, context: Context, visitor: Visitor, wanted: Annotated[_Wanted, Depends(_wanted)]
) -> Response:
    """Search one gateway's log."""
    standings = (await context.fleets.look(visitor.organization)).standings
    found, problem, gateway_id, name = None, "", "", wanted.gateway
    if wanted.gateway:
        try:
            [gateway_id] = await gateway_ids(context, visitor.organization, [wanted.gateway])
            name = (await context.gateways.get(visitor.organization, gateway_id)).fields.name
            found = await _search(context, visitor.organization, gateway_id, wanted)
        except (InvalidValue, NotFound) as error:
            problem = str(error)
    return page(
        request,
        "events.html",
        status=422 if problem else 200,
        wanted=wanted,
        shown_gateway=name,
        gateway_id=gateway_id,
        offered=[each.gateway.name for each in standings[:_OFFERED]],
        total=len(standings),
        states=_STATES,
        found=found,
        problem=problem,
        next=f"/events?{wanted.query(before=str(found.next))}" if found and found.next else "",
        first=f"/events?{wanted.query(before='')}" if wanted.before else "",
    )


async def _search(context: AdminContext, organization: str, gateway_id: str, wanted: _Wanted) -> FoundEventsPage:
    return await search_events(
        gateway_id,
        context,
        organization,
        type=wanted.type,
        entity_type=wanted.entity_type,
        entity_id=wanted.entity,
        state=next((each for each in _STATES if each == wanted.state), None),
        since=_moment("since", wanted.since),
        until=_moment("until", wanted.until),
        before=int(wanted.before) if wanted.before else None,
        limit=_ROWS,
    )


def _moment(field: str, text: str) -> datetime | None:
    """A typed time, in UTC.

    Raises:
        InvalidValue: it is none.
    """
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None
    except ValueError:
        raise InvalidValue(field, text, "be a time such as 2026-01-31T12:00") from None
