"""Whatever is sent to the admin API, it answers as its documentation says, and never with a mistake of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gatecast.server.admin_api import AdminContext, create_admin_app

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]

_SCHEMA = schemathesis.openapi.from_dict(create_admin_app(cast("AdminContext", None)).openapi())

#: Never ends.
_ENDLESS = "/api/v1/events/stream"

_Case: TypeAlias = schemathesis.Case[Any]

_OPERATIONS = [each.ok() for each in cast("Any", _SCHEMA.get_all_operations()) if each.ok().path != _ENDLESS]

_CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

_REST_API = {
    "name": "Demo API",
    "version": "v1.0",
    "context": "/demo-api",
    "upstream": {"main": {"url": "http://backend.example.test:8080"}},
    "operations": [{"method": "GET", "path": "/items"}],
}

_settings = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Keeps one event loop from request to request."""
    with asyncio.Runner() as opened:
        yield opened


async def _known(client: httpx.AsyncClient) -> dict[str, str]:
    """Ids of things that exist, by the name of the parameter."""
    gateway = (await client.post("/api/v1/gateways", json={"name": "edge"})).json()["id"]
    made = (await client.post("/api/v1/rest-apis", json={**_REST_API, "gateways": [gateway]})).json()
    await client.post(f"/api/v1/rest-apis/{made['id']}/api-keys", json={"name": "first-key"})
    return {
        "gateway_id": gateway,
        "artifact_id": made["id"],
        "deployment_id": made["deployments"][0]["id"],
        "name": "first-key",
    }


async def _send(client: httpx.AsyncClient, case: _Case, known: dict[str, str] | None) -> None:
    if known is not None:
        case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
    if case.query and "timeout" in case.query:
        case.query["timeout"] = 0
    sent = case.as_transport_kwargs(base_url="http://pod")
    sent = {name: sent[name] for name in ("method", "url", "params", "json", "data", "headers") if name in sent}
    # Who asks is the test's choice, not the generator's.
    headers = {name: value for name, value in (sent.get("headers") or {}).items() if name.lower() != "authorization"}
    sent["headers"] = {**headers, **client.headers}
    if isinstance(sent.get("data"), bytes | str):
        sent["content"] = sent.pop("data")
    answer = await client.request(**sent)
    case.validate_response(schemathesis.Response.from_httpx(answer, verify=False), checks=list(_CHECKS))


@pytest.mark.parametrize("authorized", [True, False])
def test_every_answer_is_as_documented(open_api: OpenApi, runner: asyncio.Runner, *, authorized: bool) -> None:
    """For every route, with ids that exist and with others, with a token and without."""
    opening = open_api()
    client, _ = runner.run(opening.__aenter__())
    try:
        known = runner.run(_known(client))
        if not authorized:
            client.headers.pop("Authorization")
        for operation in _OPERATIONS:

            @_settings
            @given(case=operation.as_strategy(), real=st.booleans())
            def explore(case: _Case, *, real: bool) -> None:
                # What exists goes away when it is deleted; then the rest meets what is not there.
                runner.run(_send(client, case, known if real else None))

            explore()
    finally:
        runner.run(opening.__aexit__(None, None, None))
