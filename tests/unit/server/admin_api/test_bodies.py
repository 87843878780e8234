"""Bodies that are not what a route reads: what they may hold is not shown, and what HTTP asks of every resource."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import httpx
import pytest

from gatecast.server.admin_api import AdminContext, create_admin_app

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]

_SECRET = "sk-must-not-be-shown"


def _document() -> dict[str, Any]:
    """What the API says of itself; it takes a second, so nobody asks who only collects tests."""
    return create_admin_app(cast("AdminContext", None)).openapi()


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and schema of each operation that takes a body; no path names anything that exists."""
    for path, item in _document()["paths"].items():
        for method, operation in item.items():
            if content := operation.get("requestBody", {}).get("content", {}).get("application/json"):
                yield method.upper(), path.replace("{", "").replace("}", ""), content["schema"]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """What it refers to."""
    if "$ref" not in schema:
        return schema
    return _resolved(_document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])


def _is_structure(schema: dict[str, Any]) -> bool:
    found = _resolved(schema)
    return found.get("type") in ("object", "array") or any(map(_is_structure, found.get("anyOf", ())))


def _structures(schema: dict[str, Any]) -> list[str]:
    """The fields that hold an object or a list."""
    return [name for name, each in _resolved(schema).get("properties", {}).items() if _is_structure(each)]


@pytest.mark.parametrize(
    ("headers", "field", "value"),
    [
        ({}, "Content-Type", "''"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "Content-Type", "'application/x-www-form-urlencoded'"),
        ({"Content-Type": "text/plain"}, "Content-Type", "'text/plain'"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "Content-Encoding", "'gzip'"),
    ],
)
async def test_what_is_not_plain_json_is_refused_and_not_shown(
    open_api: OpenApi, headers: dict[str, str], field: str, value: str
) -> None:
    """Every route that reads a body; the short way of publishing gives the same answer."""
    body = f'{{"name": "{_SECRET}"}}'.encode()
    async with open_api() as (client, _):
        paths = [(method, path) for method, path, _ in _operations()]
        paths.append(("POST", "/api/v1/gateways/5c72c82b-2f6e-430d-81e2-c99dddd5c3cd/events"))
        for method, path in paths:
            answer = await client.request(method, path, content=body, headers=headers)
            problem = answer.json()
            assert (answer.status_code, problem["type"]) == (415, "urn:gatecast:problem:unsupported-body"), path
            assert (problem["field"], problem["errors"][0]["value"]) == (field, value)
            assert _SECRET not in answer.text


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"])
async def test_every_name_of_json_is_read(open_api: OpenApi, kind: str) -> None:
    async with open_api() as (client, _):
        headers = {"Content-Type": kind, "Content-Encoding": "identity"}
        answer = await client.post("/api/v1/gateways", content=b'{"name": "edge"}', headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize("wrong", [_SECRET, [_SECRET], [[_SECRET]], {_SECRET[:0]: _SECRET}])
async def test_what_stands_where_an_object_or_a_list_belongs_is_not_shown(open_api: OpenApi, wrong: object) -> None:
    """As the whole body, and in each field that is a structure: it may be the text of one, secrets included."""
    async with open_api() as (client, _):
        for method, path, schema in _operations():
            for body in (wrong, *({name: wrong} for name in _structures(schema))):
                answer = await client.request(method, path, json=body)
                assert answer.is_client_error, (path, body)
                assert _SECRET not in answer.text, (path, body)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/gateways", "GET, HEAD, POST"),
        ("/api/v1/gateways/edge", "GET, HEAD, PATCH, DELETE"),
        ("/healthz", "GET, HEAD"),
        ("/api/v1/events", "POST"),
    ],
)
async def test_a_method_that_no_route_has_is_answered_with_those_there_are(
    open_api: OpenApi, path: str, allowed: str
) -> None:
    async with open_api() as (client, _):
        answer = await client.request("TRACE", path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_head_is_answered_as_get_without_the_body(open_api: OpenApi) -> None:
    """Also where GET would never end."""
    async with open_api() as (client, _):
        for path in ("/healthz", "/readyz", "/api/v1/gateways", "/api/v1/gateways/nobody", "/"):
            head, whole = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (whole.status_code, b"")
            assert head.headers["content-type"] == whole.headers["content-type"]
        endless = await client.head("/api/v1/events/stream")
        assert (endless.status_code, endless.content) == (200, b"")
        assert (await client.head("/api/v1/events")).status_code == 405
