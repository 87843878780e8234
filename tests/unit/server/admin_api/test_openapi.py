"""Descriptions of APIs as large as those of the big providers, on every database."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.app import MAX_ARTIFACT_BODY_BYTES, MAX_BODY_BYTES
from gatecast.server.admin_api.json_bodies import MAX_VALUES

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]

_JSON = {"Content-Type": "application/json"}
NewGateway = Callable[..., Awaitable[str]]

_COLLECTIONS = ["llm-providers", "rest-apis"]


def _description(paths: int) -> dict[str, Any]:
    """Like those of the big providers: thousands of schemas, templates in texts, limits beyond 64 bits."""
    operation = {
        "summary": "Replaces {{name}}",
        "description": "x" * 600,
        "parameters": [{"in": "query", "schema": {"maximum": 2**64}}],
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Large", "description": "x" * 100_000},
        "paths": {f"/things/{number}/{'x' * 60}": {"get": operation, "post": operation} for number in range(paths)},
        "components": {"schemas": {f"Schema{number}": {"type": "object"} for number in range(2_000)}},
    }


def _document(collection: str, **fields: object) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "llm-providers": {"template": "openai", "upstream": {"url": "https://llm.example.test/v1"}},
        "rest-apis": {
            "upstream": {"main": {"url": "http://backend.example.test"}},
            "operations": [{"method": "GET", "path": "/"}],
        },
    }
    return {"name": "Described", **kinds[collection], **fields}


async def _rows(context: AdminContext) -> int:
    return len(await context.hub.storage.database.fetch("SELECT id FROM gatecast_openapi"))


@pytest.mark.parametrize("collection", _COLLECTIONS)
async def test_a_large_description_is_kept_shown_and_shared_by_revisions(
    open_api: OpenApi, new_gateway: NewGateway, collection: str
) -> None:
    description = _description(4_000)
    body = json.dumps(_document(collection, openapi=description), indent=1)
    assert 4 * MAX_BODY_BYTES > len(body) > 3 * MAX_BODY_BYTES
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = await client.post(f"/api/v1/{collection}", content=body, headers={"Content-Type": "application/json"})
        assert made.status_code == 201, made.text[:500]
        path = f"/api/v1/{collection}/{made.json()['id']}"
        assert (await client.get(path)).json()["openapi"] == description
        [listed] = (await client.get(f"/api/v1/{collection}")).json()["items"]
        assert "openapi" not in listed
        deployed = await client.patch(path, json={"gateways": [gateway], "description": "Changed"})
        assert deployed.json()["openapi"] == description
        content = f"{path}/deployments/{deployed.json()['deployments'][0]['id']}/content"
        assert "openapi" not in (await client.get(content)).text
        assert await _rows(context) == 1
        changed = await client.patch(path, json={"openapi": {"info": {"description": "Short {{now}}"}, "paths": None}})
        assert "paths" not in changed.json()["openapi"]
        assert changed.json()["openapi"]["info"] == {"title": "Large", "description": "Short {{now}}"}
        assert await _rows(context) == 2
        removed = await client.patch(path, json={"openapi": None})
        assert removed.json().get("openapi") is None
        assert (await client.get(path)).json().get("openapi") is None
        deleted = await client.delete(path)
        assert (deleted.status_code, await _rows(context)) == (204, 0)


async def test_a_body_has_as_much_room_as_its_route_needs(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        for path, limit in (
            ("/api/v1/llm-providers", MAX_ARTIFACT_BODY_BYTES),
            ("/api/v1/llm-providers/some-id", MAX_ARTIFACT_BODY_BYTES),
            ("/api/v1/llm-providers/some-id/api-keys", MAX_BODY_BYTES),
            ("/api/v1/gateways", MAX_BODY_BYTES),
        ):
            method = "PUT" if path.endswith("some-id") else "POST"
            answer = await client.request(method, path, content=b" " * (limit + 1), headers=_JSON)
            assert (answer.status_code, answer.json()["limit"]) == (413, limit), path


async def test_a_body_of_too_many_values_is_refused_before_it_is_decoded(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        body = b"[" + b"0," * MAX_VALUES + b"0]"
        answer = await client.post("/api/v1/rest-apis", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert "at most 1,000,000 values" in answer.json()["detail"]


@pytest.mark.parametrize("collection", _COLLECTIONS)
async def test_a_description_that_is_too_large_is_refused_at_its_field(open_api: OpenApi, collection: str) -> None:
    async with open_api() as (client, _):
        answer = await client.post(f"/api/v1/{collection}", json=_document(collection, openapi={"x": "x" * (1 << 23)}))
        assert (answer.status_code, answer.json()["field"]) == (422, "openapi")
        assert len(answer.content) < 2_000


@pytest.mark.parametrize("collection", _COLLECTIONS)
async def test_a_number_that_becomes_a_truth_value_is_a_change(open_api: OpenApi, collection: str) -> None:
    async with open_api() as (client, _):
        made = await client.post(f"/api/v1/{collection}", json=_document(collection, openapi={"example": 1}))
        path = f"/api/v1/{collection}/{made.json()['id']}"
        changed = await client.patch(path, json={"openapi": {"example": True}})
        assert changed.headers["ETag"] != made.headers["ETag"]
        assert (await client.get(path)).json()["openapi"]["example"] is True
        again = await client.patch(path, json={"openapi": {"example": True}})
        assert again.headers["ETag"] == changed.headers["ETag"]


async def test_a_truth_value_among_parameters_of_a_policy_is_a_change(open_api: OpenApi) -> None:
    def policies(*, value: object) -> dict[str, Any]:
        return {"globalPolicies": [{"name": "own", "version": "v1", "params": {"on": value}}]}

    async with open_api() as (client, _):
        made = await client.post("/api/v1/llm-providers", json=_document("llm-providers", **policies(value=1)))
        assert made.status_code == 201, made.text
        path = f"/api/v1/llm-providers/{made.json()['id']}"
        assert (await client.patch(path, json=policies(value=True))).status_code == 200
        assert (await client.get(path)).json()["globalPolicies"][0]["params"]["on"] is True
