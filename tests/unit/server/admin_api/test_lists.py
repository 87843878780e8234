"""`/api/v1/artifacts`, `/api/v1/deployments`, `…/events/search` and sorted gateways, on every database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from gatecast.server.admin_api import AdminContext

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_OTHER = {"Authorization": "Bearer other-token"}


def _mcp(name: str, gateways: list[str]) -> dict[str, Any]:
    upstream = {"url": "https://mcp.example.test/mcp"}
    return {"name": name, "version": "v1.0", "upstream": upstream, "gateways": gateways}


async def _make(client: httpx.AsyncClient, name: str, gateways: list[str]) -> dict[str, Any]:
    answer = await client.post("/api/v1/mcp-proxies", json=_mcp(name, gateways))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _set(context: AdminContext, state: str, *, of: str, on: str, reason: str = "") -> None:
    statement = "UPDATE gatecast_deployments SET state = $1, reason = $2 WHERE artifact_id = $3 AND gateway_id = $4"
    async with context.hub.storage.database.transaction() as transaction:
        await transaction.execute(statement, state, reason, of, on)


async def _get(client: httpx.AsyncClient, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of httpx
    answer = await client.get(f"/api/v1{path}", **options)
    assert answer.status_code == 200, answer.text
    got: dict[str, Any] = answer.json()
    return got


async def _names(client: httpx.AsyncClient, query: str) -> list[str]:
    return [each["name"] for each in (await _get(client, f"/artifacts?{query}"))["items"]]


async def test_artifacts_are_counted_by_the_state_that_gateways_are_in(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        one, two, three = [await new_gateway(client, name) for name in ("one", "two", "three")]
        tools = await _make(client, "Tools", [one, two, three])
        await _make(client, "Nowhere", [])
        await _set(context, "DEPLOYED", of=tools["id"], on=one)
        await _set(context, "FAILED", of=tools["id"], on=two, reason="no such policy")
        found = await _get(client, "/artifacts")
        nowhere, listed = found["items"]
        assert (found["total"], found["next"]) == (2, None)
        assert (listed["name"], listed["collection"], listed["context"]) == ("Tools", "mcp-proxies", tools["context"])
        assert {state: each["gateways"] for state, each in listed["states"].items()} == {
            "DEPLOYED": 1,
            "FAILED": 1,
            "PENDING": 1,
        }
        assert nowhere["states"] == {}
        assert (await _get(client, "/artifacts", headers=_OTHER))["items"] == []


async def test_artifacts_are_found_by_state_kind_and_a_part_of_the_name(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        failed = await _make(client, "My_Tool 1.0", [one])
        await _make(client, "Waiting", [one, two])
        await _set(context, "FAILED", of=failed["id"], on=one)
        for query, names in (
            ("state=FAILED", ["My_Tool 1.0"]),
            ("state=PENDING", ["Waiting"]),
            ("state=PENDING&state=FAILED", ["My_Tool 1.0", "Waiting"]),
            ("search=wait", ["Waiting"]),
            ("search=MY_T", ["My_Tool 1.0"]),
            ("search=l 1.0", ["My_Tool 1.0"]),
            ("search=1_0", []),
            ("search=%25", []),
            ("search=!", []),
            ("kind=RestApi", []),
            ("kind=Mcp&state=DEPLOYED", []),
        ):
            assert sorted(await _names(client, query), key=names.index) == names, query


async def test_pages_of_artifacts_go_on_where_the_one_before_ended(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        for name in ("c", "a", "b"):
            await _make(client, f"tool {name}", [])
        for sort, names in (("handle", ["tool a", "tool b", "tool c"]), ("changed", ["tool b", "tool a", "tool c"])):
            first = await _get(client, f"/artifacts?sort={sort}&limit=2")
            assert [each["name"] for each in first["items"]] == names[:2]
            last = await _get(client, "/artifacts", params={"sort": sort, "limit": 2, "after": first["next"]})
            assert [each["name"] for each in last["items"]] == names[2:]
            assert last["next"] is None
            assert (first["total"], last["total"]) == (3, 3)


async def test_deployments_are_listed_by_artifact_and_gateway(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("edge one", "edge TWO")]
        tools, other = await _make(client, "Tools", [one, two]), await _make(client, "Other", [two])
        await _set(context, "FAILED", of=tools["id"], on=two, reason="no such policy")

        async def pairs(**query: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401 - of a query
            items = (await _get(client, "/deployments", params=query))["items"]
            return [(each["handle"], each["gatewayName"], each["state"]) for each in items]

        everything = [
            ("other", "edge TWO", "PENDING"),
            ("tools", "edge TWO", "FAILED"),
            ("tools", "edge one", "PENDING"),
        ]
        assert sorted(await pairs()) == everything
        assert await pairs(state="FAILED") == everything[1:2]
        assert await pairs(artifact=other["id"]) == everything[:1]
        assert await pairs(artifact=tools["id"], search="two") == everything[1:2]
        assert await pairs(kind="RestApi") == []
        [failed] = (await _get(client, "/deployments?state=FAILED"))["items"]
        assert (failed["reason"], failed["runs"], failed["revision"]) == ("no such policy", True, 1)
        seen: list[tuple[str, str, str]] = []
        after: str | None = ""
        while after is not None:
            part = await _get(client, "/deployments", params={"limit": 1, "after": after})
            seen += [(each["handle"], each["gatewayName"], each["state"]) for each in part["items"]]
            after = part["next"]
        assert sorted(seen) == everything
        refused = await client.get("/api/v1/deployments?search=edge")
        assert (refused.status_code, refused.json()["field"]) == (422, "search")
        assert (await _get(client, "/deployments", headers=_OTHER))["items"] == []


async def test_events_are_searched_in_one_log(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        gateway = await new_gateway(client, "edge")
        for number, entity in enumerate(("a", "b", "a")):
            body = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": entity}
            await client.post(f"/api/v1/gateways/{gateway}/events", json=body | {"data": {"number": number}})
        found = await _get(client, "/gateways/edge/events/search?entityType=Route&entityId=a&state=stored")
        assert [(each["offset"], each["data"]["number"]) for each in found["items"]] == [(3, 2), (1, 0)]
        assert found["next"] is None
        assert all(each["state"] == "stored" for each in found["items"])
        first = await _get(client, f"/gateways/{gateway}/events/search?limit=1")
        assert (first["items"][0]["offset"], first["next"]) == (3, 3)
        since = found["items"][0]["recordedAt"]
        late = await _get(client, f"/gateways/{gateway}/events/search", params={"since": since})
        assert [each["offset"] for each in late["items"]] == [3]
        assert (await client.get(f"/api/v1/gateways/{gateway}/events/search?since=2026-01-01")).status_code == 422
        assert (await client.get(f"/api/v1/gateways/{gateway}/events/search", headers=_OTHER)).status_code == 404


async def test_gateways_are_sorted_by_who_needs_somebody_most(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        ids = {name: await new_gateway(client, name) for name in ("fine", "late", "later", "lost")}
        body = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": "a"}
        for name in ("later", "late"):
            await client.post(f"/api/v1/gateways/{ids[name]}/events", json=body)
        await context.control_plane.foreign_events._mark(ids["lost"], "retention")
        for sort, names in (
            ("lag", ["later", "late", "fine", "lost"]),
            ("state", ["lost", "later", "late", "fine"]),
            ("last-seen", ["fine", "late", "later", "lost"]),
            ("name", ["fine", "late", "later", "lost"]),
        ):
            seen: list[str] = []
            after: str | None = ""
            while after is not None:
                part = await _get(client, "/gateways", params={"sort": sort, "limit": 3, "after": after})
                seen += [each["name"] for each in part["items"]]
                after = part["next"]
            assert seen == names, sort
