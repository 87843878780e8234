"""`POST /api/v1/fleet/actions` and its page, on every database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from gatecast.errors import StorageUnavailable
from gatecast.events import Position
from gatecast.server.admin_api import AdminContext, bulk
from gatecast.storage.contract import Connection, Outcome, OutcomeKind

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_OTHER = {"Authorization": "Bearer other-token"}


async def _act(client: httpx.AsyncClient, action: str, expected: int, **wanted: Any) -> dict[str, Any]:  # noqa: ANN401 - of a body
    body = {"action": action, "expected": expected, **wanted}
    answer = await client.post("/api/v1/fleet/actions", json=body)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def _connect(context: AdminContext, gateway_id: str, name: str) -> None:
    storage = context.hub.storage
    await storage.presence.renew_lease("pod", timedelta(hours=1))
    epoch = (await storage.presence.status([gateway_id]))[gateway_id].epoch
    connection = Connection(
        connection_id=name,
        gateway_id=gateway_id,
        replica="",
        pod_id="pod",
        protocol="gatecast.v2",
        remote="",
        token_id=None,
    )
    await storage.presence.connect(connection, start=Position(epoch, 0), newest_only=False)


async def test_all_that_match_are_disconnected_and_no_others(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        ids = [await new_gateway(client, name) for name in ("edge-1", "edge-2", "other")]
        for gateway_id in (ids[0], ids[2]):
            await _connect(context, gateway_id, f"of {gateway_id}")
        said = await _act(client, "disconnect", 2, search="edge")
        assert (said["matched"], said["done"], said["untouched"], said["failed"]) == (2, 1, 1, 0)
        dismissed = await context.hub.storage.presence.pending_disconnects("pod")
        assert list(dismissed) == [f"of {ids[0]}"]


async def test_a_gateway_that_was_made_since_the_last_look_counts(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """What lists show may be a second old, and nobody has agreed to act on what they have not seen."""
    async with open_api() as (client, _):
        for name in ("edge-1", "edge-2"):
            await new_gateway(client, name)
        assert (await client.get("/api/v1/fleet")).json()["gateways"] == 2
        await new_gateway(client, "edge-3")
        answer = await client.post("/api/v1/fleet/actions", json={"action": "disconnect", "expected": 2})
        assert answer.status_code == 409
        assert "3 gateways match now, not 2" in answer.text


async def test_the_audit_log_keeps_what_chose_the_gateways(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done: when that cannot be kept, nothing is."""
    async with open_api() as (client, context):
        await new_gateway(client, "edge & co")
        await _act(client, "disconnect", 1, search="edge &", connected=False)
        [entry] = (await client.get("/api/v1/audit?action=act_on_gateways")).json()["items"]
        assert entry["target"] == "/api/v1/fleet/actions?action=disconnect&expected=1&search=edge+%26&connected=false"
        assert entry["status"] == 200

        async def away(*_: object) -> None:
            raise StorageUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(context.audit, "describe", away)
            body = {"action": "disconnect", "expected": 1}
            assert (await client.post("/api/v1/fleet/actions", json=body)).status_code == 503


async def test_another_number_than_was_expected_changes_nothing(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        await _connect(context, await new_gateway(client, "edge"), "one")
        for headers, expected in (({}, 2), (_OTHER, 1)):
            body = {"action": "disconnect", "expected": expected}
            answer = await client.post("/api/v1/fleet/actions", json=body, headers=headers)
            assert (answer.status_code, answer.json()["field"]) == (409, "expected")
        assert await context.hub.storage.presence.pending_disconnects("pod") == {}


async def test_what_was_rejected_is_skipped_everywhere(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Callable[..., Awaitable[None]]
) -> None:
    event = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": "a"}
    async with open_api() as (client, context):
        for name in ("one", "two"):
            gateway_id = await new_gateway(client, name)
            await client.post(f"/api/v1/gateways/{gateway_id}/events", json=event)
            await confirm(context, gateway_id, 1)
            parked = Outcome(gateway_id=gateway_id, replica="", offset=1, kind=OutcomeKind.PARKED, reason="no")
            await context.hub.storage.outcomes.record([parked])
        assert (await _act(client, "skip-parked", 2, state="rejected"))["done"] == 2
        for name in ("one", "two"):
            gateway = f"/api/v1/gateways/{name}"
            assert (await client.get(f"{gateway}/parked")).json()["items"] == []
            gateway_id = (await client.get(gateway)).json()["id"]
            for _ in range(2):
                # Before and after what waited for the decision was released: it stands no more against the gateway.
                [event] = (await client.get(f"{gateway}/events")).json()["items"]
                assert (event["outcome"]["kind"], event["outcome"]["reason"]) == ("skipped", "no")
                assert (await client.get(f"{gateway}/why")).json()["code"] == "offline"
                assert "rejected" not in (await client.get(f"{gateway}/why")).json()["cause"]
                await context.hub.storage.parking.withheld(gateway_id, "", after=1)


async def test_many_gateways_are_handled_part_by_part(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_GATEWAYS_AT_ONCE", 2)
    async with open_api() as (client, context):
        for name in ("a", "b", "c"):
            await context.control_plane.foreign_events._mark(await new_gateway(client, f"edge {name}"), "retention")
        first = await _act(client, "resynchronized", 3)
        assert (first["matched"], first["done"], first["next"]) == (3, 2, "edge b")
        last = await _act(client, "resynchronized", 1, after=first["next"])
        assert (last["done"], last["next"]) == (1, None)
        states = [(await client.get(f"/api/v1/gateways/edge {name}")).json()["resyncReason"] for name in "abc"]
        assert states == [None] * 3
