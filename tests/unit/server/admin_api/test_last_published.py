"""What becomes of a change that nobody acknowledges: a deletion, or a key. Confirmed is the final word on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from gatecast.server.admin_api import AdminContext
from gatecast.storage.contract import Outcome, OutcomeKind

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]
Confirm = Callable[[AdminContext, str, int], Awaitable[None]]

_API = {
    "name": "Demo API",
    "context": "/demo-api",
    "upstream": {"main": {"url": "http://backend.example.test:8080"}},
    "operations": [{"method": "GET", "path": "/items"}],
}
_AT_ONCE = {"wait": "confirmed", "timeout": "0"}
_PATIENT = {"wait": "confirmed", "timeout": "30"}


async def _make(client: httpx.AsyncClient, gateways: list[str]) -> str:
    made = await client.post("/api/v1/rest-apis", json={**_API, "gateways": gateways})
    assert made.status_code == 201, made.text
    return f"/api/v1/rest-apis/{made.json()['id']}"


def _states(told: list[dict[str, Any]]) -> dict[str, str]:
    return {each["gatewayId"]: each["state"] for each in told}


async def _deployments(client: httpx.AsyncClient, gateway: str, **query: str | int) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/gateways/{gateway}/deployments", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


# --- deleting ---------------------------------------------------------------------------------------------------------


async def test_a_deletion_is_listed_until_it_is_confirmed(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm
) -> None:
    """The artifact is gone by then, so it shows its id and kind."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        path = await _make(client, [gateway])
        [before] = (await _deployments(client, gateway))["items"]
        assert (before["state"], before["handle"], before["revision"]) == ("PENDING", "demo-api", 1)
        assert (await client.delete(path)).status_code == 204
        [deleting] = (await _deployments(client, gateway))["items"]
        assert (deleting["state"], deleting["artifactId"], deleting["kind"], deleting["handle"]) == (
            "DELETING",
            before["artifactId"],
            "RestApi",
            None,
        )
        await confirm(context, gateway, 1)
        assert [each["state"] for each in (await _deployments(client, gateway))["items"]] == ["DELETING"]
        await confirm(context, gateway, 2)
        assert (await _deployments(client, gateway))["items"] == []


async def test_a_delete_waits_until_every_gateway_has_confirmed_it(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm
) -> None:
    async with open_api() as (client, context):
        one, two = await new_gateway(client, "one"), await new_gateway(client, "two")
        path = await _make(client, [one, two])
        await confirm(context, one, 2)
        deleting = asyncio.create_task(client.delete(path, params=_PATIENT))
        while (await client.get(path)).status_code == 200:
            await asyncio.sleep(0.01)
        await confirm(context, two, 2)
        answer = await deleting
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_delete_that_is_not_confirmed_in_time_tells_what_is_known(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm
) -> None:
    """202, with the place in each gateway's log at which to look later."""
    async with open_api() as (client, context):
        one, two, three = [await new_gateway(client, name) for name in ("one", "two", "three")]
        path = await _make(client, [one, two, three])
        await confirm(context, one, 2)
        rejection = Outcome(gateway_id=three, replica="", offset=2, kind=OutcomeKind.PARKED, reason="in use")
        deleting = asyncio.create_task(client.delete(path, params={"wait": "applied", "timeout": "0.5"}))
        while (await client.get(path)).status_code == 200:
            await asyncio.sleep(0.01)
        await context.hub.storage.outcomes.record([rejection])
        await confirm(context, three, 2)
        answer = await deleting
        assert answer.status_code == 202
        told = answer.json()["gateways"]
        assert _states(told) == {one: "confirmed", two: "stored", three: "rejected"}
        assert {each["gatewayId"]: each["reason"] for each in told}[three] == "in use"
        assert {each["offset"] for each in told} == {2}
        [later] = (await client.get(f"/api/v1/gateways/{two}/events?after=1")).json()["items"]
        assert (later["type"], later["state"]) == ("api.deleted", "stored")


async def test_nobody_is_waited_for_where_nobody_has_it_and_that_is_no_confirmation(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """Nor for a gateway that is deleted meanwhile; keys are told in the same way."""
    async with open_api() as (client, _):
        nowhere = await _make(client, [])
        key = await client.post(f"{nowhere}/api-keys", json={"name": "first-key"}, params=_PATIENT)
        assert (key.status_code, key.json()["gateways"]) == (202, [])
        answer = await client.delete(nowhere, params=_PATIENT)
        assert (answer.status_code, answer.json()) == (202, {"gateways": []})
        gateway = await new_gateway(client)
        path = await _make(client, [gateway])
        deleting = asyncio.create_task(client.delete(path, params=_PATIENT))
        while (await client.get(path)).status_code == 200:
            await asyncio.sleep(0.01)
        await client.delete(f"/api/v1/gateways/{gateway}")
        assert (await deleting).status_code == 202


async def test_without_wait_a_delete_answers_at_once(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = await _make(client, [await new_gateway(client)])
        assert (await client.delete(path)).status_code == 204


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_keys_tell_where_their_events_stand(open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm) -> None:
    """Created, rotated and revoked: 201, 200 and 204 once confirmed, 202 before; the value is shown in either case."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        keys = f"{await _make(client, [gateway])}/api-keys"
        created = await client.post(keys, json={"name": "first-key"})
        [told] = created.json()["gateways"]
        assert (created.status_code, told["gatewayId"], told["offset"]) == (201, gateway, 2)
        assert told["position"].endswith(":2")
        rotate = f"{keys}/first-key/rotate"
        early = await client.post(rotate, json={}, params=_AT_ONCE)
        assert (early.status_code, _states(early.json()["gateways"])) == (202, {gateway: "stored"})
        assert early.json()["value"]
        await confirm(context, gateway, 5)
        late = await client.post(rotate, json={}, params=_PATIENT)
        assert (late.status_code, _states(late.json()["gateways"])) == (200, {gateway: "confirmed"})
        another = await client.post(keys, json={"name": "another"}, params=_PATIENT)
        assert another.status_code == 201
        refused = await client.delete(f"{keys}/another", params=_AT_ONCE)
        assert (refused.status_code, _states(refused.json()["gateways"])) == (202, {gateway: "stored"})
        await confirm(context, gateway, 7)
        assert (await client.delete(f"{keys}/first-key", params=_PATIENT)).status_code == 204


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_what_a_gateway_runs_comes_in_pages(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """A page that is cut short by what was deleted still leads on."""
    async with open_api() as (client, _):
        gateway = await new_gateway(client)
        for number in range(5):
            body = {**_API, "name": f"Api {number}", "context": f"/api-{number}", "gateways": [gateway]}
            await client.post("/api/v1/rest-apis", json=body)
        seen, after = list[str](), ""
        while True:
            page = await _deployments(client, gateway, limit=2, after=after)
            seen += [each["handle"] for each in page["items"]]
            if (after := page["next"]) is None:
                break
        assert sorted(seen) == [f"api-{number}" for number in range(5)]


async def test_what_is_told_again_does_not_move_between_pages(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """The cursor is made of what never changes."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        path = await _make(client, [gateway])
        for _ in range(3):
            await client.post(f"{path}/deployments", json={"gatewayId": gateway})
        first = (await client.get(f"{path}/deployments", params={"limit": 2})).json()
        await context.control_plane.desired_state.lost("default", gateway, "retention")
        second = (await client.get(f"{path}/deployments", params={"limit": 2, "after": first["next"]})).json()
        assert [each["revision"] for each in first["items"] + second["items"]] == [4, 3, 2, 1]
        assert second["next"] is None


async def test_imported_artifacts_come_in_pages(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        items = [
            {"dpid": f"local-{number}", "status": "deployed", "configuration": {"kind": "RestApi"}}
            for number in range(3)
        ]
        await context.control_plane.imports.store("default", gateway, items)
        path = f"/api/v1/gateways/{gateway}/imported-artifacts"
        first = (await client.get(path, params={"limit": 2})).json()
        second = (await client.get(path, params={"limit": 2, "after": first["next"]})).json()
        assert {each["localId"] for each in first["items"] + second["items"]} == {each["dpid"] for each in items}
        assert second["next"] is None


async def test_every_list_is_a_page(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        gateway = await new_gateway(client)
        path = await _make(client, [gateway])
        below = ("deployments", "imported-artifacts", "tokens", "parked", "events")
        for each in (
            *(f"/api/v1/gateways/{gateway}/{name}" for name in below),
            "/api/v1/gateways",
            "/api/v1/llm-provider-templates",
            "/api/v1/rest-apis",
            f"{path}/deployments",
            f"{path}/api-keys",
        ):
            page = (await client.get(each)).json()
            assert set(page) == {"items", "next"}, each
            assert page["next"] is None
