"""A refusal names everything that is wrong, wherever it was found."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import httpx
import pytest

from gatecast.server.admin_api import AdminContext, create_admin_app

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_PROVIDER = {"name": "Acme", "template": "openai", "upstream": {"url": "https://api.acme.example"}}


def _wrong(answer: httpx.Response) -> set[str]:
    """The fields that are named, each with a rule; the first one also by itself, and all of them in words."""
    body = answer.json()
    assert (answer.status_code, body["type"]) == (422, "urn:gatecast:problem:invalid-value"), body
    first = body["errors"][0]
    assert (first["field"], first["rule"]) == (body["field"], body["rule"])
    assert all(each["rule"] in body["detail"] for each in body["errors"])
    return {each["field"] for each in body["errors"]}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)


async def _send(open_api: OpenApi, path: str, body: dict[str, Any]) -> httpx.Response:
    async with open_api() as (client, _):
        return await client.post(path, json=body)


async def test_every_field_of_a_gateway(open_api: OpenApi) -> None:
    body = {"name": "x", "displayName": 7, "vhost": "v" * 513, "type": "huge", "properties": [], "colour": "red"}
    answer = await _send(open_api, "/api/v1/gateways", body)
    assert _wrong(answer) == set(body)


async def test_every_null_of_a_change(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}"
        answer = await client.patch(path, json={"displayName": None, "connectionPolicy": None, "vhost": "v"})
    assert _wrong(answer) == {"displayName", "connectionPolicy"}


async def test_every_field_of_an_event_also_those_that_the_library_refuses(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        body: dict[str, Any] = {"type": 7, "action": "EXPLODE", "entityId": "", "eventId": "x"}
        assert _wrong(await client.post(path, json=body)) == {"type", "action", "entityType", "entityId", "eventId"}
        body = {"type": " ", "action": "UPDATE", "entityType": "a\nb", "entityId": "x" * 256, "data": {}}
        assert _wrong(await client.post(path, json=body)) == {"type", "entityType", "entityId"}
        query = {"wait": "for-ever", "timeout": "-1"}
        assert _wrong(await client.post(path, json={}, params=query)) >= {"wait", "timeout", "type", "action"}


@pytest.mark.parametrize(
    ("kind", "changes", "wrong"),
    [
        (
            "llm-providers",
            {"name": "x", "version": "1", "upstream": {}, "template": "{{"},
            {"name", "version", "upstream", "template"},
        ),
        (
            "llm-providers",
            {"context": "a b", "labels": {"{{": "x"}, "description": "{{", "models": [{"id": 2**63}]},
            {"context", "labels", "description", "models.0.id"},
        ),
        (
            "llm-providers",
            {
                "upstream": {"ref": "nothing"},
                "upstreamDefinitions": [{"name": "a", "upstreams": [{"url": "http://a"}]}] * 2,
                "accessControl": {"exceptions": [{"path": "/_gateway-health", "methods": ["*"]}] * 2},
                "context": "/",
            },
            {
                "upstream.ref",
                "upstreamDefinitions.1.name",
                "accessControl.exceptions.0.path",
                "accessControl.exceptions.1.path",
            },
        ),
        (
            "llm-providers",
            {"upstream": {"url": "ftp://x", "auth": {"type": "api-key"}}, "security": {"x": 1}},
            {"upstream.url", "upstream.auth.header", "upstream.auth.value", "security.x"},
        ),
        (
            "rest-apis",
            {
                "name": "Orders",
                "template": None,
                "upstream": {"main": {"ref": "x"}, "sandbox": {}},
                "operations": [{"method": "GET"}, {"path": "/{"}, {"match": {}}],
            },
            {
                "template",
                "upstream.sandbox",
                "operations.0",
                "operations.1.path",
                "operations.2.match.method",
                "operations.2.match.path",
            },
        ),
    ],
)
async def test_every_mistake_of_a_document(
    open_api: OpenApi, kind: str, changes: dict[str, Any], wrong: set[str]
) -> None:
    """Fields, what they demand of each other, and what no tenant may write."""
    answer = await _send(open_api, f"/api/v1/{kind}", {**_PROVIDER, **changes})
    assert _wrong(answer) == wrong


async def test_every_parameter_that_no_database_stores(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        asked = [
            (method, path, each["name"], each["in"])
            for path, operations in create_admin_app(cast("AdminContext", None)).openapi()["paths"].items()
            for method, operation in operations.items()
            for each in operation.get("parameters", [])
            if each["in"] != "header" and path != "/api/v1/events/stream"
        ]
        assert len(asked) > 150
        for method, path, name, place in asked:
            values = {found: "%00" if found == name else "1" for found in re.findall(r"{(\w+)}", path)}
            query = {name: "\0"} if place == "query" else {}
            answer = await client.request(method, path.format_map(defaultdict(str, values)), params=query, json={})
            # What another mistake of the request hides is a 404.
            assert answer.status_code in (404, 422), (method, path, name, answer.text)
            if answer.status_code == 422:
                fields = {each["field"].partition(".")[0] for each in answer.json()["errors"]}
                assert fields & {name, _camel(name), f"{name}Id", "body"}, (method, path, name, answer.text)


async def test_an_attempt_whose_path_cannot_be_stored_is_in_the_audit_log(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        assert "gatewayId" in _wrong(await client.patch("/api/v1/gateways/edge%00", json={}))
        [entry] = (await client.get("/api/v1/audit")).json()["items"]
        assert (entry["target"], entry["status"]) == ("/api/v1/gateways/edge ", 422)


async def test_a_single_mistake_is_a_list_of_one(open_api: OpenApi) -> None:
    answer = await _send(open_api, "/api/v1/gateways", {"name": "x"})
    body = answer.json()
    assert body["errors"] == [{name: body[name] for name in ("field", "rule", "value")}]


async def test_values_that_may_be_secrets_are_not_repeated(open_api: OpenApi) -> None:
    auth = {"type": "api-key", "header": "a b", "value": ["hunter2"]}
    answer = await _send(open_api, "/api/v1/llm-providers", {**_PROVIDER, "name": "x", "upstream": {"auth": auth}})
    assert _wrong(answer) >= {"name", "upstream.auth.header", "upstream.auth.value"}
    assert "hunter2" not in answer.text
