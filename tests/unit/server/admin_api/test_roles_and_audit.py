"""Viewers change nothing, and every requested change is found in the audit log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import httpx
import pytest
from fastapi import FastAPI

from gatecast.controlplane.access.admin_tokens import Role
from gatecast.controlplane.access.audit import KEPT_FOR
from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.errors import StorageUnavailable
from gatecast.server.admin_api import AdminContext

OpenApi: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]

_NAMES = {
    "gateway_id": "00000000-0000-4000-8000-000000000000",
    "artifact_id": "00000000-0000-4000-8000-000000000000",
    "deployment_id": "00000000-0000-4000-8000-000000000000",
    "connection_id": "00000000-0000-4000-8000-000000000000",
    "token_id": "00000000-0000-4000-8000-000000000000",
    "handle": "openai",
    "name": "first-key",
}


async def _viewer(context: AdminContext) -> dict[str, str]:
    _, token = await context.admin_tokens.issue("default", Role.VIEWER)
    return {"Authorization": f"Bearer {token}"}


def _changing_routes(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    app: FastAPI = client._transport.app  # type: ignore[attr-defined]
    document = app.openapi()
    return [
        (method.upper(), path.format(**_NAMES))
        for path, operations in document["paths"].items()
        for method in operations
        if method not in ("get", "head") and path.startswith("/api/")
    ]


async def test_a_viewer_reads_and_changes_nothing(open_api: OpenApi) -> None:
    async with open_api() as (client, context):
        headers = await _viewer(context)
        assert (await client.get("/api/v1/gateways", headers=headers)).status_code == 200
        routes = _changing_routes(client)
        assert len(routes) > 30
        for method, path in routes:
            answer = await client.request(method, path, headers=headers, json={"name": "edge"})
            # What cannot be read is refused before it matters who asks.
            assert answer.status_code in (403, 422), (method, path, answer.text)
        made = await client.post("/api/v1/gateways", headers=headers, json={"name": "edge"})
        assert made.status_code == 403
        assert "admin" in made.json()["detail"]
        assert (await client.get("/api/v1/gateways")).json()["items"] == []


async def test_what_was_asked_for_is_found_with_its_answer(open_api: OpenApi) -> None:
    async with open_api() as (client, context):
        viewer = await _viewer(context)
        await client.post("/api/v1/gateways", json={"name": "edge"})
        await client.post("/api/v1/gateways", json={"name": "edge"})
        await client.post("/api/v1/gateways", headers=viewer, json={"name": "other"})
        page = (await client.get("/api/v1/audit")).json()
        found = [(each["action"], each["role"], each["door"], each["status"]) for each in page["items"]]
        assert found == [
            ("create_gateway", "viewer", "api", 403),
            ("create_gateway", "admin", "api", 409),
            ("create_gateway", "admin", "api", 201),
        ]
        assert {each["subject"] for each in page["items"][1:]} == {"token configured"}
        assert page["next"] is None


async def test_an_attempt_is_stored_before_it_is_tried(open_api: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that dies in the middle leaves an entry without an answer; one that cannot write it changes nothing."""
    async with open_api() as (client, context):

        async def dies(*_: object) -> None:
            assert [each.status for each in await context.audit.page("default", limit=9)] == [None]
            raise StorageUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(context.gateways, "create", dies)
            assert (await client.post("/api/v1/gateways", json={"name": "edge"})).status_code == 503

        async def away(*_: object) -> None:
            raise StorageUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(context.audit, "record", away)
            assert (await client.post("/api/v1/gateways", json={"name": "edge"})).status_code == 503
        assert await context.gateways.page("default", after="", limit=9) == []


async def test_pages_are_newest_first_filtered_and_of_one_organization(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        for number in range(5):
            await client.post("/api/v1/gateways", json={"name": f"edge-{number}"})
        await client.post("/api/v1/gateways", headers={"Authorization": "Bearer other-token"}, json={"name": "theirs"})
        await client.delete("/api/v1/gateways/none")
        first = (await client.get("/api/v1/audit?limit=4")).json()
        second = (await client.get("/api/v1/audit", params={"limit": 4, "after": first["next"]})).json()
        found = [each["action"] for each in (*first["items"], *second["items"])]
        assert found == ["delete_gateway", *["create_gateway"] * 5]
        assert second["next"] is None
        only = (await client.get("/api/v1/audit?action=delete_gateway")).json()["items"]
        assert [(each["action"], each["target"], each["status"]) for each in only] == [
            ("delete_gateway", "/api/v1/gateways/none", 404)
        ]
        assert len((await client.get("/api/v1/audit?after=nonsense")).json()["items"]) == 6


async def test_old_entries_are_removed(open_api: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_api() as (client, context):
        await client.post("/api/v1/gateways", json={"name": "edge"})
        assert await context.audit.clean_up() == 0
        later = milliseconds() + KEPT_FOR + 1_000
        monkeypatch.setattr("gatecast.controlplane.access.audit.milliseconds", lambda: later)
        assert await context.audit.clean_up() == 1
        assert await context.audit.page("default", limit=9) == []
