"""What older releases let in and nobody can read back: it is shown as such, and hides nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from gatecast.events import Position
from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.follower import Follower
from gatecast.storage.contract import Connection
from gatecast.storage.postgres import PostgresStorage

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_EVENT = {"type": "api.deployed", "action": "CREATE", "entityType": "Api", "entityId": "a-1", "data": {"n": 1}}

_DEEP = '{"a":' * 2_000 + "1" + "}" * 2_000

#: Payloads, each of which once made a page, a stream or a client fail.
_PAYLOADS = {
    "digits": '{"n":' + "9" * 5_000 + "}",
    "deep": _DEEP,
    "surrogate": '{"a":"\\ud800"}',
    "infinite": '{"n":1e999}',
    "list": "[1]",
    "no JSON": "{",
}


@asynccontextmanager
async def _log(
    open_api: OpenApi, new_gateway: NewGateway
) -> AsyncIterator[tuple[httpx.AsyncClient, AdminContext, str]]:
    """Three events of a gateway."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        for _ in range(3):
            answer = await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
            assert answer.status_code == 201
        yield client, context, gateway_id


async def _spoil(context: AdminContext, column: str, value: str) -> None:
    """Make the second event of every log what older releases let in."""
    is_postgres = isinstance(context.hub.storage, PostgresStorage)
    async with context.hub.storage.database.transaction() as transaction:
        if is_postgres:
            for rule in ("originated_at", "action"):
                await transaction.execute(f"ALTER TABLE gatecast.events DROP CONSTRAINT IF EXISTS events_{rule}")
        table = "gatecast.events" if is_postgres else "gatecast_events"
        cast = "::text::timestamptz" if is_postgres and column == "originated_at" else ""
        await transaction.execute(f'UPDATE {table} SET {column} = $1{cast} WHERE "offset" = 2', value)


async def _check_page(client: httpx.AsyncClient, gateway_id: str) -> str:
    """The events around it are shown as ever; why it cannot be read."""
    answer = await client.get(f"/api/v1/gateways/{gateway_id}/events")
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    assert [item["offset"] for item in items] == [1, 2, 3]
    assert [item["data"] for item in items] == [{"n": 1}, None, {"n": 1}]
    assert [items[0]["undeliverable"], items[2]["undeliverable"]] == [None, None]
    assert items[1]["eventId"]
    return str(items[1]["undeliverable"])


async def _check_stream(context: AdminContext) -> None:
    now = (await Follower.begin(context, "default", "", None)).position
    follower = await Follower.begin(context, "default", "", replace(now, since=0, until=0))
    await follower.look()
    text = await follower.next_portion()
    shown = [json.loads(line.removeprefix("data: ")) for line in text.encode().decode().split("\n") if "data: " in line]
    assert [each["offset"] for each in shown] == [1, 2, 3]
    assert [each["data"] for each in shown] == [{"n": 1}, None, {"n": 1}]
    assert [bool(each.get("undeliverable")) for each in shown] == [False, True, False]


@pytest.mark.parametrize("payload", _PAYLOADS.values(), ids=_PAYLOADS.keys())
async def test_an_event_with_such_data_is_shown_by_its_id(
    open_api: OpenApi, new_gateway: NewGateway, payload: str
) -> None:
    """On the page, and on the stream of all gateways of the organization."""
    async with _log(open_api, new_gateway) as (client, context, gateway_id):
        await _spoil(context, "payload", payload)
        assert (await _check_page(client, gateway_id)).startswith("data must ")
        await _check_stream(context)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("originated_at", "20000-01-01 00:00:00+00"),
        ("originated_at", "infinity"),
        ("originated_at", "-infinity"),
        ("originated_at", "0044-03-15 00:00:00+00 BC"),
        ("action", "EXPLODE"),
    ],
)
async def test_an_event_with_such_a_column_is_shown_by_its_id(
    open_api: OpenApi, new_gateway: NewGateway, column: str, value: str
) -> None:
    async with _log(open_api, new_gateway) as (client, context, gateway_id):
        await _spoil(context, column, value)
        assert await _check_page(client, gateway_id) == f"{column} cannot be read"
        await _check_stream(context)
        for path in ("", "/why", "/parked", "/deployments"):
            assert (await client.get(f"/api/v1/gateways/{gateway_id}{path}")).status_code == 200


async def test_what_was_allowed_before_is_shown_as_it_is(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """NUL, 70 bits, a hundred levels: older releases let them in, and readers can read them."""
    data: dict[str, Any] = {"nul": "\x00", "number": 2**70}
    for _ in range(100):
        data = {"a": data}
    async with _log(open_api, new_gateway) as (client, context, gateway_id):
        await _spoil(context, "payload", json.dumps(data))
        items = (await client.get(f"/api/v1/gateways/{gateway_id}/events")).json()["items"]
        assert (items[1]["data"], items[1]["undeliverable"]) == (data, None)


@pytest.mark.parametrize("properties", [_DEEP, '{"a":' * 256 + "1" + "}" * 256, '{"a":"\\ud800"}', "[]", "{"])
async def test_such_properties_hide_no_gateway(open_api: OpenApi, new_gateway: NewGateway, properties: str) -> None:
    """The list shows all gateways, and what is wrong with one; replacing the properties makes it good."""
    async with open_api() as (client, context):
        ids = [await new_gateway(client, name) for name in ("one", "two")]
        async with context.hub.storage.database.transaction() as transaction:
            await transaction.execute("UPDATE gatecast_gateways SET properties = $2 WHERE id = $1", ids[0], properties)
        listed = await client.get("/api/v1/gateways")
        assert listed.status_code == 200, listed.text
        one, two = listed.json()["items"]
        assert (one["properties"], two["properties"], two["unreadable"]) == (None, {}, None)
        assert one["unreadable"].startswith("properties must ")
        path = f"/api/v1/gateways/{ids[0]}"
        assert (await client.get(path)).json()["unreadable"] == one["unreadable"]
        refused = await client.patch(path, json={"displayName": "New"})
        assert (refused.status_code, refused.json()["field"]) == (422, "properties")
        replaced = await client.patch(path, json={"properties": {"region": "eu"}})
        assert (replaced.status_code, replaced.json()["properties"]) == (200, {"region": "eu"})
        assert replaced.json()["unreadable"] is None


@pytest.mark.parametrize(
    ("column", "value", "mended"),
    [
        ("type", "event", {"type": "ai"}),
        ("connection_policy", "oldest-only", {"connectionPolicy": "all"}),
        ("name", "x", {"name": "renamed"}),
        ("name", "tab\tand\u202e", {"name": "renamed"}),
        ("description", "x" * 9_999, {"description": ""}),
    ],
)
async def test_what_another_release_has_stored_hides_no_gateway(
    open_api: OpenApi, new_gateway: NewGateway, column: str, value: str, mended: dict[str, str]
) -> None:
    """While two releases run, the newer stores what the older does not know: it is shown, and can be mended."""
    statement: Any = f"UPDATE gatecast_gateways SET {column} = $2 WHERE id = $1"
    async with open_api() as (client, context):
        ids = [await new_gateway(client, name) for name in ("one", "two")]
        async with context.hub.storage.database.transaction() as transaction:
            await transaction.execute(statement, ids[0], value)
        path = f"/api/v1/gateways/{ids[0]}"
        for question in ("/api/v1/gateways", "/api/v1/gateways?search=w", "/api/v1/fleet", path):
            assert (await client.get(question)).status_code == 200, question
        listed = {each["id"]: each for each in (await client.get("/api/v1/gateways")).json()["items"]}
        assert (len(listed), listed[ids[1]]["unreadable"]) == (2, None)
        assert (listed[ids[0]]["unreadable"] or "").startswith(
            column if column in ("type", "connection_policy") else ""
        )
        refused = await client.patch(path, json={"vhost": "new.example"})
        assert refused.status_code == 422
        assert refused.json()["field"] == next(iter(mended))
        changed = await client.patch(path, json=mended)
        assert (changed.status_code, changed.json()["unreadable"]) == (200, None)
        assert (await client.delete(path)).status_code == 204


async def test_such_a_manifest_hides_no_gateway(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """As if it had said nothing yet."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        async with context.hub.storage.database.transaction() as transaction:
            await transaction.execute("UPDATE gatecast_gateways SET manifest = $2 WHERE id = $1", gateway_id, _DEEP)
        shown = await client.get(f"/api/v1/gateways/{gateway_id}")
        assert (shown.status_code, shown.json()["manifest"]) == (200, None)


async def test_a_manifest_that_could_not_be_stored_is_shown(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """On the gateway, and as the reason that nothing more urgent takes the place of."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await _connect(context, gateway_id)
        await context.gateways.record_manifest_fault(gateway_id, "manifest must be at most 4,194,304 bytes")
        shown = (await client.get(f"/api/v1/gateways/{gateway_id}")).json()
        assert shown["manifestFault"] == "manifest must be at most 4,194,304 bytes"
        why = (await client.get(f"/api/v1/gateways/{gateway_id}/why")).json()
        assert why["code"] == "manifest-refused"
        assert "4,194,304" in why["cause"]
        await context.gateways.record_manifest(gateway_id, {"version": "1.0"})
        assert (await client.get(f"/api/v1/gateways/{gateway_id}/why")).json()["code"] == "current"
        assert (await client.get(f"/api/v1/gateways/{gateway_id}")).json()["manifestFault"] is None


async def _connect(context: AdminContext, gateway_id: str) -> None:
    presence = context.hub.storage.presence
    await presence.renew_lease("pod-1", timedelta(hours=1))
    connection = Connection(
        connection_id="connection-1",
        gateway_id=gateway_id,
        replica="",
        pod_id="pod-1",
        protocol="gateway.v1",
        remote="",
        token_id=None,
    )
    await presence.connect(connection, start=Position((await presence.standing(gateway_id, "")).epoch, 0))
