"""`POST /api/v1/fleet/actions`: one action on every gateway that matches, whose number the caller has said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from gatecast.errors import Conflict, GatecastError, NotFound
from gatecast.server.admin_api.auditing import describe
from gatecast.server.admin_api.context import AdminContext, Context, Organization
from gatecast.server.admin_api.fleet import FleetFilter, FleetGateway, FleetState
from gatecast.server.admin_api.gateways import note_resynchronized
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.models import Model

router = APIRouter(prefix="/api/v1/fleet", tags=["fleet"], route_class=JsonRoute)

#: Most gateways that one request acts on; the answer says where to continue.
MAX_GATEWAYS_AT_ONCE = 500

#: Gateways that are handled at the same time.
_AT_A_TIME = 4

#: Most entities of one gateway that are decided about in one request.
_ENTITIES = 100

#: Most failures in an answer.
_TOLD = 20


class BulkAction(StrEnum):
    """The action for each gateway."""

    DISCONNECT = "disconnect"
    RETRY_PARKED = "retry-parked"
    SKIP_PARKED = "skip-parked"
    RESYNCHRONIZED = "resynchronized"


class NewBulk(Model):
    """The action, and the gateways to apply it to."""

    action: BulkAction = Field(
        description="`disconnect`: close every connection, the gateways come back by themselves; `retry-parked` and "
        "`skip-parked`: decide about everything that they rejected; `resynchronized`: say that they have the desired "
        "state again."
    )
    expected: int = Field(
        ge=0,
        description="The number of matching gateways that the caller expects; if it differs, nothing is done.",
        examples=[3],
    )
    search: Annotated[str, StringConstraints(max_length=120)] = Field("", description="A part of the name.")
    connected: bool | None = None
    state: FleetState | None = None
    after: Annotated[str, StringConstraints(max_length=120)] = Field(
        "", description="`next` of the previous answer; `expected` counts the gateways after it."
    )


class BulkFailure(Model):
    """A gateway for which it could not be done."""

    gateway_id: str
    detail: str


class BulkView(Model):
    """The result for all gateways."""

    matched: int
    done: int = Field(description="Gateways that were changed.")
    untouched: int = Field(description="Gateways that needed no change, or were deleted meanwhile.")
    failed: int
    failures: list[BulkFailure] = Field(description="The first 20 of them.")
    next: str | None = Field(description="500 gateways are handled at a time: pass it as `after` to continue.")


@router.post("/actions")
async def act_on_gateways(body: NewBulk, request: Request, context: Context, organization: Organization) -> BulkView:
    """Perform one action on every gateway that matches. The audit log keeps what chose them."""
    return await act(request, context, organization, body)


async def matching(context: AdminContext, organization: str, wanted: NewBulk) -> Sequence[FleetGateway]:
    """The gateways that match now, in the order of names."""
    filtered = FleetFilter(text=wanted.search, connected=wanted.connected, state=wanted.state)
    fleet = await context.fleets.look_now(organization)
    return [each for each in fleet.matching(filtered) if each.gateway.name > wanted.after]


async def act(request: Request, context: AdminContext, organization: str, wanted: NewBulk) -> BulkView:
    """Do it, gateway by gateway: what is done stays done, whatever fails after it.

    Raises:
        Conflict: another number of gateways matches.
    """
    await describe(request, context, **wanted.model_dump(mode="json"))
    found = await matching(context, organization, wanted)
    if len(found) != wanted.expected:
        raise Conflict(
            f"{len(found):,} gateways match now, not {wanted.expected:,}: look at them again", field="expected"
        )
    batch = found[:MAX_GATEWAYS_AT_ONCE]
    results = await _each(batch, lambda each: _ACTIONS[wanted.action](context, organization, each.id))
    failures = [
        BulkFailure(gateway_id=each.id, detail=result)
        for each, result in zip(batch, results, strict=True)
        if isinstance(result, str)
    ]
    return BulkView(
        matched=len(found),
        done=results.count(True),
        untouched=results.count(False),
        failed=len(failures),
        failures=failures[:_TOLD],
        next=batch[-1].gateway.name if len(found) > len(batch) else None,
    )


async def _each(batch: Sequence[FleetGateway], work: Callable[[FleetGateway], Awaitable[bool]]) -> list[bool | str]:
    """Whether there was something to do for each gateway, or why it could not be done."""
    places = asyncio.Semaphore(_AT_A_TIME)

    async def one(standing: FleetGateway) -> bool | str:
        async with places:
            try:
                return await work(standing)
            except NotFound:
                return False
            except GatecastError as error:
                return str(error)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(each)) for each in batch]
    return [each.result() for each in running]


async def _disconnect(context: AdminContext, _organization: str, gateway_id: str) -> bool:
    status = await context.hub.status([gateway_id])
    presence = context.hub.engine.presence
    connections = status[gateway_id].connections if gateway_id in status else ()
    return any([await presence.disconnect_connection(gateway_id, each.connection_id) for each in connections])


async def _resolve(context: AdminContext, gateway_id: str, *, retry: bool) -> bool:
    parked = await context.hub.engine.parking.parked(gateway_id, after=0, limit=_ENTITIES)
    resolve = context.hub.delivery.resolve
    return any(
        [await resolve(gateway_id, each.replica, (each.entity_type, each.entity_id), retry=retry) for each in parked]
    )


async def _retry(context: AdminContext, _organization: str, gateway_id: str) -> bool:
    return await _resolve(context, gateway_id, retry=True)


async def _skip(context: AdminContext, _organization: str, gateway_id: str) -> bool:
    return await _resolve(context, gateway_id, retry=False)


async def _resynchronized(context: AdminContext, organization: str, gateway_id: str) -> bool:
    await note_resynchronized(gateway_id, context, organization)
    return True


_ACTIONS: Mapping[BulkAction, Callable[[AdminContext, str, str], Awaitable[bool]]] = {
    BulkAction.DISCONNECT: _disconnect,
    BulkAction.RETRY_PARKED: _retry,
    BulkAction.SKIP_PARKED: _skip,
    BulkAction.RESYNCHRONIZED: _resynchronized,
}
