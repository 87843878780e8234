"""`POST /api/v1/events`: many events in one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.models import MAX_EVENTS_PER_BATCH

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_PATH = "/api/v1/events"


def _event(gateway_id: str, **fields: object) -> dict[str, Any]:
    event = {"gatewayId": gateway_id, "type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "a"}
    return event | fields


async def _offsets(client: httpx.AsyncClient, gateway_id: str) -> list[int]:
    return [item["offset"] for item in (await client.get(f"/api/v1/gateways/{gateway_id}/events")).json()["items"]]


async def test_events_of_one_request_stand_in_its_order(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        one, two = await new_gateway(client, "one"), await new_gateway(client, "two")
        answer = await client.post(_PATH, json={"events": [_event(one), _event(two), _event(one)]})
        assert answer.status_code == 201
        items = answer.json()["items"]
        assert [(item["gatewayId"], item["offset"], item["result"]) for item in items] == [
            (one, 1, "created"),
            (two, 1, "created"),
            (one, 2, "created"),
        ]


async def test_one_gateway_that_is_not_there_leaves_nothing_stored(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Also one of another organization, and one that was there a moment ago."""
    async with open_api() as (client, context):
        kept, gone = await new_gateway(client, "kept"), await new_gateway(client, "gone")
        foreign = await new_gateway(client, "foreign", headers={"authorization": "Bearer other-token"})
        assert (await client.post(_PATH, json={"events": [_event(gone)]})).status_code == 201
        found = dict(context.gateways._found)
        await client.delete(f"/api/v1/gateways/{gone}")
        context.gateways._found.update(found)
        for other in (str(uuid4()), foreign, gone):
            answer = await client.post(_PATH, json={"events": [_event(kept), _event(other)]})
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:gatecast:problem:not-found")
            assert other in answer.json()["detail"]
        assert await _offsets(client, kept) == []


async def test_an_id_that_was_published_before_is_known_or_in_conflict(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        event = _event(gateway_id, eventId=str(uuid4()))
        assert (await client.post(_PATH, json={"events": [event]})).status_code == 201
        again = await client.post(_PATH, json={"events": [event, event | {"entityId": "other"}]})
        assert again.status_code == 200
        assert [(item["offset"], item["result"]) for item in again.json()["items"]] == [(1, "known"), (1, "conflict")]
        assert await _offsets(client, gateway_id) == [1]


@pytest.mark.parametrize("path", [_PATH, "/api/v1/gateways/{}/events"], ids=["batch", "single"])
async def test_a_truth_value_is_other_content_than_a_number(
    open_api: OpenApi, new_gateway: NewGateway, path: str
) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        event = _event(gateway_id, eventId=str(uuid4()))

        async def publish(data: dict[str, object]) -> bool:
            """Whether it is the same event as before."""
            body = event | {"data": data}
            if path == _PATH:
                answer = await client.post(path, json={"events": [body]})
                return bool(answer.json()["items"][0]["result"] != "conflict")
            return (await client.post(path.format(gateway_id), json=_alone(body))).status_code != 409

        assert await publish({"on": True, "list": [{"left": 0}], "ratio": 2})
        assert not await publish({"on": 1, "list": [{"left": 0}], "ratio": 2})
        assert not await publish({"on": True, "list": [{"left": False}], "ratio": 2})
        assert await publish({"ratio": 2.0, "list": [{"left": 0}], "on": True})
        assert await _offsets(client, gateway_id) == [1]


def _alone(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "gatewayId"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"action": "EXPLODE"}, "events.1.action"),
        ({"type": "subscription.created"}, "events.1.type"),
        ({"type": "application.updated"}, "events.1.type"),
        ({"gatewayId": " "}, "events.1.gatewayId"),
        ({"more": 1}, "events.1.more"),
    ],
)
async def test_what_is_wrong_is_named_with_its_place_and_nothing_is_stored(
    open_api: OpenApi, new_gateway: NewGateway, change: dict[str, object], field: str
) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        answer = await client.post(_PATH, json={"events": [_event(gateway_id), _event(gateway_id) | change]})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert await _offsets(client, gateway_id) == []


@pytest.mark.parametrize("count", [0, MAX_EVENTS_PER_BATCH + 1])
async def test_a_request_holds_between_one_event_and_a_thousand(open_api: OpenApi, count: int) -> None:
    async with open_api() as (client, _):
        answer = await client.post(_PATH, json={"events": [_event("gateway")] * count})
        assert (answer.status_code, answer.json()["field"]) == (422, "events")


async def test_who_may_only_read_publishes_nothing(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        answer = await client.post(_PATH, json={"events": [_event("gateway")]}, headers={"authorization": "Bearer no"})
        assert answer.status_code == 401
