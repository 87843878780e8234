"""`/api/v1/gateways/{id}/events/{offset}`: one event, hop by hop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gatecast.hub import HubSubscription
from gatecast.server.admin_api import AdminContext
from gatecast.storage.contract import Outcome, OutcomeKind

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_EVENT = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": "r-1", "data": {"x": 1}}


def _path(gateway_id: str, offset: int = 1) -> str:
    return f"/api/v1/gateways/{gateway_id}/events/{offset}"


async def _deliver(context: AdminContext, gateway_id: str, replica: str = "") -> HubSubscription:
    """Take the next event, confirm it, and go."""
    async with context.hub.subscribe(gateway_id, replica=replica) as subscription:
        event = await anext(subscription)
        subscription.acknowledge(event)
    return subscription


async def test_an_event_that_nobody_took_has_no_way_yet(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
        answer = await client.get(_path(gateway_id))
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["state"], shown["deliveries"], shown["outcomes"]) == ("stored", [], [])
    assert {name: shown[name] for name in _EVENT} == _EVENT


async def test_an_event_is_shown_hop_by_hop(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """In order, by one clock, over each connection that picked it up; and with each replica's word."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
        for replica in ("a", "b"):
            await _deliver(context, gateway_id, replica)
        outcome = Outcome(gateway_id=gateway_id, replica="b", offset=1, kind=OutcomeKind.APPLIED, reason="")
        await context.hub.storage.outcomes.record([outcome])
        shown = (await client.get(_path(gateway_id))).json()
    assert [way["replica"] for way in shown["deliveries"]] == ["a", "b"]
    for way in shown["deliveries"]:
        assert way["podId"] == context.settings.pod_id
        assert [hop["hop"] for hop in way["hops"]] == ["picked-up", "sent", "confirmed"]
        instants = [datetime.fromisoformat(hop["at"]) for hop in way["hops"]]
        assert instants == sorted(instants)
        assert all(hop["within"] == 0 for hop in way["hops"])
    [said] = shown["outcomes"]
    assert (said["replica"], said["kind"]) == ("b", "applied")
    assert shown["outcome"] == said


async def test_a_replica_of_which_only_its_word_is_known_is_shown(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
        outcome = Outcome(gateway_id=gateway_id, replica="a", offset=1, kind=OutcomeKind.REJECTED, reason="no")
        await context.hub.storage.outcomes.record([outcome])
        shown = (await client.get(_path(gateway_id))).json()
    assert shown["deliveries"] == [{"replica": "a", "connectionId": None, "podId": None, "hops": []}]
    assert shown["state"] == "rejected"


async def test_another_tenants_event_is_not_there(open_api: OpenApi, new_gateway: NewGateway) -> None:
    stranger = {"Authorization": "Bearer other-token"}
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
        assert (await client.get(_path(gateway_id))).status_code == 200
        for path in (_path(gateway_id), _path("edge"), _path(str(uuid4()))):
            assert (await client.get(path, headers=stranger)).status_code == 404


@pytest.mark.parametrize(("offset", "status"), [(2, 404), (2**53 - 1, 404), (0, 422), (-1, 422), ("x", 422)])
async def test_an_offset_without_an_event(
    open_api: OpenApi,
    new_gateway: NewGateway,
    offset: Any,  # noqa: ANN401
    status: int,
) -> None:
    async with open_api() as (client, _):
        gateway_id = await new_gateway(client)
        await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
        assert (await client.get(_path(gateway_id, offset))).status_code == status
