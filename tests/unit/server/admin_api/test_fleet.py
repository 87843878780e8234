"""All gateways together: counts, filters, pods, and what gateways have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

import httpx

from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.app import create_admin_app
from gatecast.server.admin_api.fleet import Fleets
from gatecast.server.admin_api.shared_looks import FRESH
from gatecast.storage.contract import Outcome, OutcomeKind

OpenApi: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway: TypeAlias = Callable[..., Awaitable[str]]
Confirm: TypeAlias = Callable[[AdminContext, str, int], Awaitable[None]]

_EVENT = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "api-1"}


async def _names(client: httpx.AsyncClient, query: str) -> list[str]:
    answer = await client.get(f"/api/v1/gateways?{query}")
    assert answer.status_code == 200, answer.text
    return [each["name"] for each in answer.json()["items"]]


async def test_gateways_are_counted_and_filtered_by_how_far_they_are(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm
) -> None:
    async with open_api() as (client, context):
        ids = {name: await new_gateway(client, name) for name in ("current", "behind", "rejected", "lost")}
        for name in ("behind", "rejected"):
            await client.post(f"/api/v1/gateways/{ids[name]}/events", json=_EVENT)
        await confirm(context, ids["rejected"], 1)
        parked = Outcome(gateway_id=ids["rejected"], replica="", offset=1, kind=OutcomeKind.PARKED, reason="no")
        await context.hub.storage.outcomes.record([parked])
        await context.control_plane.foreign_events._mark(ids["lost"], "retention")
        counts = (await client.get("/api/v1/fleet")).json()
        assert counts == {
            "gateways": 4,
            "connected": 0,
            "states": {"current": 1, "behind": 1, "rejected": 1, "resync": 1},
        }
        for state, name in (("current",) * 2, ("behind",) * 2, ("rejected",) * 2, ("resync", "lost")):
            assert await _names(client, f"state={state}") == [name]
        assert await _names(client, "search=CURR") == ["current"]
        assert await _names(client, "connected=true") == []
        assert len(await _names(client, "connected=false")) == 4
        first = (await client.get("/api/v1/gateways?connected=false&limit=3")).json()
        assert [each["name"] for each in first["items"]] == ["behind", "current", "lost"]
        assert await _names(client, f"connected=false&after={first['next']}") == ["rejected"]
        other = await client.get("/api/v1/fleet", headers={"Authorization": "Bearer other-token"})
        assert other.json()["gateways"] == 0


async def test_many_who_look_at_once_cost_one_look(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        await new_gateway(client, "edge")
        now = 100.0
        fleets = Fleets(context.hub, context.gateways, clock=lambda: now)
        looks = await asyncio.gather(*(fleets.look("default") for _ in range(20)))
        assert all(each is looks[0] for each in looks)
        # Another pod makes one.
        await Gateways(context.hub).create("default", GatewayFields(name="second"))
        assert len((await fleets.look("default")).standings) == 1
        now += FRESH
        assert len((await fleets.look("default")).standings) == 2


async def test_who_changes_a_gateway_and_then_looks_sees_the_change(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (known, opened):
        # As if no second ever passed.
        context = replace(opened, fleets=Fleets(opened.hub, opened.gateways, clock=lambda: 0.0))
        transport = httpx.ASGITransport(create_admin_app(context))
        client = httpx.AsyncClient(transport=transport, base_url=known.base_url, headers=known.headers)
        assert await _names(client, "connected=false") == []
        edge = await new_gateway(client, "edge")
        assert await _names(client, "connected=false") == ["edge"]
        assert (await client.patch(f"/api/v1/gateways/{edge}", json={"name": "renamed"})).status_code == 200
        assert await _names(client, "search=rena") == ["renamed"]
        assert (await client.delete(f"/api/v1/gateways/{edge}")).status_code == 204
        assert await _names(client, "connected=false") == []
        assert (await client.get("/api/v1/fleet")).json()["gateways"] == 0


async def test_who_looks_first_and_leaves_takes_nobody_along(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        await new_gateway(client, "edge")
        fleets = Fleets(context.hub, context.gateways)
        first = asyncio.create_task(fleets.look("default"))
        second = asyncio.create_task(fleets.look("default"))
        await asyncio.sleep(0)
        first.cancel()
        assert len((await second).standings) == 1


async def test_pods_are_listed_with_the_connections_of_the_caller_alone(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        await context.hub.storage.presence.renew_lease("pod-x", timedelta(hours=1))
        await context.hub.storage.presence.describe_pod("pod-x", "9.9.9")
        await new_gateway(client)
        [pod] = [each for each in (await client.get("/api/v1/pods")).json()["items"] if each["podId"] == "pod-x"]
        assert (pod["version"], pod["connections"]) == ("9.9.9", 0)
        assert 3_500 < pod["leaseSeconds"] <= 3_600


async def test_a_connection_that_is_not_there_cannot_be_closed(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        for path in (f"/api/v1/gateways/{gateway_id}/connections/none", "/api/v1/gateways/none/connections/none"):
            assert (await client.delete(path)).status_code == 404


async def test_policies_are_those_that_all_chosen_gateways_have(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        one, two, silent = [await new_gateway(client, name) for name in ("one", "two", "silent")]
        policy = {"name": "mask", "version": "v1.0.0", "description": "Masks", "parameters": {"type": "object"}}
        await context.gateways.record_manifest(one, {"policies": [policy, {"name": "more", "version": "v1.0.0"}]})
        await context.gateways.record_manifest(two, {"policies": [policy]})
        found = (await client.get(f"/api/v1/policies?gateway={one}&gateway={two}")).json()
        assert found == {"items": [policy], "silent": [], "next": None}
        with_silent = (await client.get(f"/api/v1/policies?gateway={one}&gateway={silent}")).json()
        assert with_silent == {"items": [], "silent": [silent], "next": None}
        foreign = await client.get(f"/api/v1/policies?gateway={one}", headers={"Authorization": "Bearer other-token"})
        assert foreign.status_code == 404
        assert (await client.get("/api/v1/policies")).status_code == 422
