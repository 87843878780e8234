"""The short way of publishing gives the answers of the route."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from gatecast.server.admin_api import AdminContext, publish_shortcut
from gatecast.server.admin_api.app import MAX_BODY_BYTES

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_EVENT: dict[str, Any] = {
    "type": "api.deployed",
    "action": "CREATE",
    "entityType": "Api",
    "entityId": " a-1 ",
    "data": {"text": "ü\n", "deep": [{"x": 1.5}]},
}
_JSON = {"content-type": "application/json"}

#: Bodies, and headers beside the usual ones.
_REQUESTS: dict[str, tuple[bytes, dict[str, str]]] = {
    "an event": (json.dumps(_EVENT).encode(), {}),
    "an event without data": (json.dumps({k: v for k, v in _EVENT.items() if k != "data"}).encode(), {}),
    "a subscription": (json.dumps(_EVENT | {"type": "subscription.created"}).encode(), {}),
    "an application": (json.dumps(_EVENT | {"type": "application.updated"}).encode(), {}),
    "an unknown field": (json.dumps(_EVENT | {"more": 1}).encode(), {}),
    "a wrong action": (json.dumps(_EVENT | {"action": "EXPLODE"}).encode(), {}),
    "blank and wrong": (json.dumps(_EVENT | {"type": " ", "action": 1}).encode(), {}),
    "a wrong id": (json.dumps(_EVENT | {"eventId": "none"}).encode(), {}),
    **{
        f"the id {event_id!r}": (json.dumps(_EVENT | {"eventId": event_id}).encode(), {})
        for event_id in (
            "4B1F7F0E-0D7F-4A1E-9D0C-2F6F6D1D9A55",
            "4b1f7f0e0d7f4a1e9d0c2f6f6d1d9a55",
            "urn:uuid:4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55",
            "{4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55}",
            "4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a5-5",
            "",
            None,
            7,
        )
    },
    **{
        f"{name} is {value!r}": (json.dumps(_EVENT | {name: value}).encode(), {})
        for name, values in {
            "data": (None, [], "{}", {"a": "\ud800"}),
            "type": (7, None, "t" * 256, "a\0"),
            "action": ("update", True, None, " UPDATE"),
            "entityType": ("\ud800", {}),
            "entityId": ("\u00a0",),
            "event_id": ("4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55",),
            "gatewayId": ("a",),
        }.items()
        for value in values
    },
    "other names": (b'{"type":"a","action":"UPDATE","entity_type":"t","entity_id":"e"}', {}),
    "other names and an id": (
        b'{"type":"a","action":"UPDATE","entity_type":"t","entity_id":"e","event_id":"4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"}',
        {},
    ),
    "both names": (json.dumps(_EVENT | {"entity_type": _EVENT["entityType"]}).encode(), {}),
    "a wrong type by another name": (b'{"type":"a","action":"UPDATE","entity_type":7,"entity_id":"e"}', {}),
    "a missing field": (json.dumps({k: v for k, v in _EVENT.items() if k != "entityId"}).encode(), {}),
    "deep": (json.dumps(_EVENT | {"data": {"a": json.loads("[" * 150 + "]" * 150)}}).encode(), {}),
    "a huge number": (b'{"type":"a","action":"UPDATE","entityType":"t","entityId":"e","data":{"n":1e999}}', {}),
    "a NUL": (json.dumps(_EVENT | {"data": {"a": "\0"}}).encode(), {}),
    "a key twice": (b'{"type":"a","type":"b"}', {}),
    "no JSON": (b"{", {}),
    "no text": (b"\xff", {}),
    "nothing": (b"", {}),
    "a list": (b"[]", {}),
    "data of more than 1 MiB": (json.dumps(_EVENT | {"data": {"x": "y" * 1_100_000}}).encode(), {}),
    "a body of more than 2 MiB": (b" " * (MAX_BODY_BYTES + 1), {}),
    "no token": (json.dumps(_EVENT).encode(), {"authorization": ""}),
    "a wrong token": (json.dumps(_EVENT).encode(), {"authorization": "Bearer wrong"}),
    "a wrong token and no JSON": (b"{", {"authorization": "Bearer wrong"}),
    "a token of somebody else": (json.dumps(_EVENT).encode(), {"authorization": "Bearer other-token"}),
    "another scheme": (json.dumps(_EVENT).encode(), {"authorization": "Basic default-token"}),
    "lower case": (json.dumps(_EVENT).encode(), {"authorization": "bearer default-token"}),
    "another type": (json.dumps(_EVENT).encode(), {"content-type": "text/plain"}),
    "a charset": (json.dumps(_EVENT).encode(), {"content-type": "application/json; charset=utf-8"}),
}


def _plain(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """The answer without what differs from one event to the next."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", answer.text)
    headers = {name: re.sub("[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", value) for name, value in answer.headers.items()}
    return answer.status_code, headers, text


@pytest.mark.parametrize("name", _REQUESTS)
async def test_both_ways_answer_alike(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body, headers = _REQUESTS[name]
    async with open_api() as (client, _):
        answers = []
        for way in ("short", "long"):
            path = f"/api/v1/gateways/{await new_gateway(client, way)}/events"
            with monkeypatch.context() as patch:
                if way == "long":
                    patch.setattr(publish_shortcut, "_asked", lambda _: None)
                answers.append(_plain(await client.post(path, content=body, headers=_JSON | headers)))
    assert answers[0] == answers[1]


async def test_the_same_id_again_and_with_other_content(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        event = _EVENT | {"eventId": str(uuid4())}
        first, again = [await client.post(path, json=event) for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        assert first.headers["location"] == f"{path}?after=0&limit=1"
        other = await client.post(path, json=event | {"data": {}})
        assert (other.status_code, other.json()["field"]) == (409, "eventId")


async def test_a_deleted_gateway_is_not_found_also_where_it_was_published_to_before(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """Deleted here, or by another pod."""
    async with open_api() as (client, context):
        for elsewhere in (False, True):
            gateway_id = await new_gateway(client, f"gone-{elsewhere}")
            path = f"/api/v1/gateways/{gateway_id}/events"
            assert (await client.post(path, json=_EVENT)).status_code == 201
            found = dict(context.gateways._found)
            assert (await client.delete(f"/api/v1/gateways/{gateway_id}")).status_code == 204
            if elsewhere:
                context.gateways._found.update(found)
            answers = [await client.post(path, json=_EVENT) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [404, 404]
            assert answers[0].json() == answers[1].json()
            assert answers[0].json()["type"] == "urn:gatecast:problem:not-found"


@pytest.mark.parametrize("event_id", ["4B1F7F0E-0D7F-4A1E-9D0C-2F6F6D1D9A55", "4b1f7f0e0d7f4a1e9d0c2f6f6d1d9a55"])
async def test_an_id_is_the_same_however_it_is_written(
    open_api: OpenApi, new_gateway: NewGateway, event_id: str
) -> None:
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        answers = [await client.post(path, json=_EVENT | {"eventId": each}) for each in (event_id, event_id.lower())]
        assert [answer.status_code for answer in answers] == [201, 200]
        assert {answer.json()["eventId"] for answer in answers} == {"4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"}


async def test_a_gateway_of_another_organization_stays_hidden_however_often_it_is_published_to(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        assert (await client.post(path, json=_EVENT)).status_code == 201
        foreign = await client.post(path, json=_EVENT, headers={"authorization": "Bearer other-token"})
        assert foreign.status_code == 404


_CONFIGURED_TOKEN = "a-token-from-the-settings"


async def test_publishing_again_to_a_gateway_looks_up_neither_gateway_nor_token(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statements per request: the append alone; the configured token needs no look-up either."""
    async with open_api() as (client, context):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        await context.admin_tokens.prepare(_CONFIGURED_TOKEN)
        client.headers["Authorization"] = f"Bearer {_CONFIGURED_TOKEN}"
        await client.post(path, json=_EVENT)
        statements: list[str] = []
        database = context.hub.storage.database
        fetch = database.fetch

        async def counted(query: Any, *arguments: object) -> Any:  # noqa: ANN401 - the contract's own
            statements.append(query)
            return await fetch(query, *arguments)

        monkeypatch.setattr(type(database), "fetch", staticmethod(counted))
        assert (await client.post(path, json=_EVENT)).status_code == 201
        assert [each for each in statements if "gatecast_" in each] == []


@pytest.mark.parametrize(
    "event",
    [
        _EVENT,
        {"type": "a", "action": "UPDATE", "entity_type": "t", "entity_id": "e", "event_id": str(uuid4())},
        {"type": "a", "action": "UPDATE", "entityType": "t", "entity_id": "e"},
    ],
    ids=["camelCase", "snake_case", "mixed"],
)
async def test_the_short_way_passes_no_layer_of_the_framework(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch, event: dict[str, Any]
) -> None:
    """Those layers take as long as all else together. What stays: the request has its name, in the answer as well."""
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"

        async def refuse(*_: object) -> None:
            raise AssertionError("a layer of the framework was reached")

        monkeypatch.setattr(FastAPI, "__call__", refuse)
        answer = await client.post(path, json=event, headers={"x-request-id": "of-mine"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (201, "of-mine")
