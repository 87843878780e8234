"""Where resources are: what `Location` says, names in place of ids, and what programs call each operation."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import httpx
import pytest

from gatecast.server.admin_api import AdminContext, create_admin_app

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_EVENT = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "a-1", "data": {"a": [1, 2.5]}}
_API = {
    "name": "Orders",
    "handle": "orders",
    "upstream": {"main": {"url": "https://orders.example"}},
    "operations": [{"method": "GET", "path": "/*"}],
}
_TEMPLATE = {"handle": "acme", "name": "Acme"}
_OTHER = {"Authorization": "Bearer other-token"}


async def _created(client: httpx.AsyncClient, path: str, body: dict[str, Any] | None) -> tuple[str, Any]:
    """Where the new resource is, and what the answer says of it."""
    answer = await client.post(f"/api/v1{path}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"], answer.json()


async def test_every_201_says_where_the_new_resource_is(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        location, gateway = await _created(client, "/gateways", {"name": "edge"})
        assert (await client.get(location)).json()["id"] == gateway["id"]
        location, token = await _created(client, f"/gateways/{gateway['id']}/tokens", None)
        assert (await client.delete(location)).status_code == 204
        assert token["id"] in location
        location, event = await _created(client, f"/gateways/{gateway['id']}/events", _EVENT)
        assert (await client.get(location)).json()["items"][0]["eventId"] == event["eventId"]
        location, template = await _created(client, "/llm-provider-templates", _TEMPLATE)
        assert (await client.get(location)).json()["handle"] == template["handle"]
        location, api = await _created(client, "/rest-apis", _API)
        assert (await client.get(location)).json()["id"] == api["id"]
        deployments = f"/rest-apis/{api['id']}/deployments"
        location, first = await _created(client, deployments, {"gatewayId": gateway["id"]})
        assert (await client.get(location)).json()["id"] == first["id"]
        location, again = await _created(client, f"{deployments}/{first['id']}/restore", None)
        assert (await client.get(location)).json()["id"] == again["id"]
        location, _ = await _created(client, f"/rest-apis/{api['id']}/api-keys", {"name": "key-1"})
        assert (await client.delete(location)).status_code == 204


def _document() -> dict[str, Any]:
    return create_admin_app(cast("AdminContext", None)).openapi()


def test_every_201_is_documented_with_its_location() -> None:
    """All but that of a batch, whose events have an address each."""
    paths = {path: one for path, one in _document()["paths"].items() if path != "/api/v1/events"}
    created = [one for path in paths.values() for one in path.values() if "201" in one["responses"]]
    assert len(created) >= 8
    assert all("Location" in one["responses"]["201"]["headers"] for one in created)


def test_operations_have_names_that_programs_can_use() -> None:
    """Unique, a verb and what it is done to; no paths and no underscores in them."""
    names = [one["operationId"] for path in _document()["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name)] == []
    assert {"listGateways", "createGateway", "getGateway", "updateGateway", "deleteGateway", "publishEvent"} <= {*names}
    assert {"listLlmProviders", "createLlmProvider", "deployMcpProxy", "rotateRestApiApiKey"} <= {*names}


async def test_a_gateways_name_works_wherever_its_id_does(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client, "edge eu-1")
        path = "/api/v1/gateways/edge%20eu-1"
        assert (await client.get(path)).json()["id"] == gateway_id
        assert (await client.post(f"{path}/events", json=_EVENT)).status_code == 201
        token = (await client.post(f"{path}/tokens")).json()
        for below in ("why", "events", "tokens", "parked", "deployments", "imported-artifacts"):
            assert (await client.get(f"{path}/{below}")).status_code == 200, below
        assert (await client.post(f"{path}/resynchronized")).status_code == 204
        assert (await client.delete(f"{path}/tokens/{token['id']}")).status_code == 204
        assert (await client.patch(path, json={"displayName": "E"})).status_code == 200
        assert (await client.get(path, headers=_OTHER)).status_code == 404
        assert (await client.delete(path)).status_code == 204
        assert (await client.get(path)).status_code == 404


async def test_a_gateways_name_works_in_bodies_and_queries_too(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Answers name ids, whatever was asked with; one gateway that is named twice is one."""
    async with open_api() as (client, _):
        one, two = await new_gateway(client, "edge eu-1"), await new_gateway(client, "edge us-1")
        _, made = await _created(client, "/rest-apis", {**_API, "gateways": [" edge eu-1 ", one]})
        assert made["gateways"] == [one]
        path = "/api/v1/rest-apis/orders"
        moved = await client.patch(path, json={"gateways": ["edge us-1"], "undeploy": ["edge eu-1"]})
        assert (moved.status_code, moved.json()["gateways"]) == (200, [two])
        replaced = await client.put(path, json={**_API, "gateways": ["edge eu-1", two]})
        assert (replaced.status_code, sorted(replaced.json()["gateways"])) == (200, sorted([one, two]))
        stopped = await client.post(f"{path}/undeploy", json={"gatewayId": "edge eu-1"})
        assert (stopped.status_code, stopped.json()["gatewayId"]) == (200, one)
        deployed = await client.post(f"{path}/deployments", json={"gatewayId": "edge eu-1"})
        assert (deployed.status_code, deployed.json()["gatewayId"]) == (201, one)
        offered = await client.get("/api/v1/policies", params={"gateway": ["edge eu-1", two]})
        assert sorted(offered.json()["silent"]) == sorted([one, two])


@pytest.mark.parametrize("name", ["of nobody", "x" * 255, "9c1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55", "日本"])
async def test_a_gateway_that_nobody_has_is_not_found_wherever_it_is_named(open_api: OpenApi, name: str) -> None:
    async with open_api() as (client, _):
        await _created(client, "/rest-apis", _API)
        path = "/api/v1/rest-apis/orders"
        answers = [
            await client.post(
                "/api/v1/rest-apis", json={**_API, "name": "Books", "handle": "books", "gateways": [name]}
            ),
            await client.patch(path, json={"gateways": [name]}),
            await client.post(f"{path}/deployments", json={"gatewayId": name}),
            await client.post(f"{path}/undeploy", json={"gatewayId": name}),
            await client.get("/api/v1/policies", params={"gateway": name}),
            await client.get("/api/v1/events/stream", params={"gateway": name}),
        ]
        assert [answer.status_code for answer in answers] == [404] * len(answers)


async def test_an_artifacts_handle_works_wherever_its_id_does(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        _, made = await _created(client, "/rest-apis", _API)
        path = "/api/v1/rest-apis/orders"
        assert (await client.get(path)).json()["id"] == made["id"]
        deployed = await client.post(f"{path}/deployments", json={"gatewayId": gateway_id})
        assert deployed.status_code == 201
        assert (await client.get(f"{path}/deployments/{deployed.json()['id']}/content")).status_code == 200
        assert (await client.post(f"{path}/api-keys", json={"name": "key-1"})).status_code == 201
        assert len((await client.get(f"{path}/api-keys")).json()["items"]) == 1
        assert (await client.put(path, json=_API)).status_code == 200
        assert (await client.patch(path, json={"description": "more"})).status_code == 200
        assert (await client.post(f"{path}/undeploy", json={"gatewayId": gateway_id})).status_code == 200
        assert (await client.get(path, headers=_OTHER)).status_code == 404
        assert (await client.get("/api/v1/mcp-proxies/orders")).status_code == 404
        assert (await client.delete(path)).status_code == 204


async def test_rotating_a_key_needs_no_body(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        await _created(client, "/rest-apis", _API)
        _, key = await _created(client, "/rest-apis/orders/api-keys", {"name": "key-1"})
        rotated = await client.post("/api/v1/rest-apis/orders/api-keys/key-1/rotate")
        assert rotated.status_code == 200, rotated.text
        assert rotated.json()["value"] != key["value"]


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "api.deleted"},
        {"action": "DELETE"},
        {"entityType": "Route"},
        {"entityId": "a-2"},
        {"data": {}},
        {"data": {"a": [2.5, 1]}},
    ],
)
async def test_the_same_id_with_other_content_is_a_conflict(
    open_api: OpenApi, new_gateway: NewGateway, changes: dict[str, Any]
) -> None:
    """And nothing is stored; with the same content it is the first event once more."""
    event_id = "0b2f9d9e-6a0e-4a2e-8f0a-6f9d5f7f1c11"
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        event = _EVENT | {"eventId": event_id}
        assert (await client.post(path, json=event)).status_code == 201
        again = await client.post(path, json={**event, "data": {"a": [1.0, 2.5]}})
        assert (again.status_code, again.json()["offset"]) == (200, 1)
        refused = await client.post(path, json={**event, **changes})
        assert (refused.status_code, refused.json()["field"]) == (409, "eventId")
        assert event_id in refused.json()["detail"]
        assert len((await client.get(path)).json()["items"]) == 1


_PROVIDER = {
    "name": "Some Provider",
    "handle": "some-provider",
    "template": "openai",
    "context": "/some",
    "upstream": {"url": "https://llm.example"},
}


async def test_a_providers_handle_works_wherever_its_id_does(open_api: OpenApi) -> None:
    """In each way to write a proxy. The id is stored and shown, so what was read can be sent back."""
    async with open_api() as (client, _):
        _, first = await _created(client, "/llm-providers", _PROVIDER)
        other = {**_PROVIDER, "name": "Other Provider", "handle": "other-provider", "context": "/other"}
        _, second = await _created(client, "/llm-providers", other)
        body = {"name": "A Proxy", "context": "/proxy", "provider": {"id": "some-provider"}}
        _, proxy = await _created(client, "/llm-proxies", body)
        assert proxy["provider"]["id"] == first["id"]
        path = f"/api/v1/llm-proxies/{proxy['id']}"
        changed = await client.patch(path, json={"additionalProviders": [{"id": "other-provider", "as": "other"}]})
        assert changed.status_code == 200, changed.text
        assert changed.json()["additionalProviders"][0]["id"] == second["id"]
        back = await client.put(path, json=changed.json())
        assert (back.status_code, back.json()["etag"]) == (200, changed.json()["etag"])
        replaced = await client.put(path, json={**body, "provider": {"id": "other-provider"}})
        assert (replaced.status_code, replaced.json()["provider"]["id"]) == (200, second["id"])
        for wrong, field in (
            ({**body, "provider": {"id": "no-such"}}, "provider.id"),
            ({**body, "provider": {"id": "No such"}}, "provider.id"),
            ({**body, "additionalProviders": [{"id": first["id"]}]}, "additionalProviders"),
        ):
            refused = await client.put(path, json=wrong)
            assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text


async def test_events_of_a_batch_and_deployments_are_found_by_names(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        _, gateway = await _created(client, "/gateways", {"name": "edge"})
        events = [{**_EVENT, "gatewayId": each} for each in ("edge", gateway["id"], " edge ")]
        published = await client.post("/api/v1/events", json={"events": events})
        assert published.status_code == 201, published.text
        assert [each["offset"] for each in published.json()["items"]] == [1, 2, 3]
        assert {each["gatewayId"] for each in published.json()["items"]} == {gateway["id"]}
        unknown = await client.post("/api/v1/events", json={"events": [{**_EVENT, "gatewayId": "no-such"}]})
        assert unknown.status_code == 404
        _, api = await _created(client, "/rest-apis", {**_API, "gateways": ["edge"]})
        for query in (f"artifact={api['id']}", "artifact=orders&kind=RestApi"):
            found = (await client.get(f"/api/v1/deployments?{query}")).json()
            assert [each["handle"] for each in found["items"]] == ["orders"]
        refused = await client.get("/api/v1/deployments?artifact=orders")
        assert (refused.status_code, refused.json()["field"]) == (422, "artifact")
