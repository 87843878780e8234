"""Whatever the address of a page asks for: it is shown, or refused in words, and never a mistake of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, cast

import httpx

from gatecast.controlplane.access.gateways import GatewayFields
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, MCP_PROXY, REST_API
from gatecast.events import Action, Event
from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.examples import ARTIFACTS
from gatecast.server.console.app import _routes

OpenConsole: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
LogIn: TypeAlias = Callable[..., Awaitable[None]]

#: Never end.
_ENDLESS = {"/live", "/console/stream"}

_VALUES = ("", "deployments", "-1", "0", "9" * 19, "%", "é漢'\"<b>", "2026-01-01T00:00", "0001-01-01", "\x7f", "\x00")


def _pages() -> Iterator[tuple[str, list[str]]]:
    """The path of each page, and what it may be asked for."""
    for router in cast("Any", _routes()):
        for page in getattr(router, "effective_candidates", list)():
            if "GET" in page.methods and page.path not in _ENDLESS:
                yield page.path, list(_asked(page.dependant))


def _asked(dependant: Any) -> Iterator[str]:  # noqa: ANN401 - of the framework
    yield from (each.alias for each in dependant.query_params)
    for each in dependant.dependencies:
        yield from _asked(each)


async def _fill(browser: httpx.AsyncClient, context: AdminContext) -> dict[str, str]:
    """What paths can name, by the name of the parameter."""
    gateway_id = (await context.gateways.create("default", GatewayFields(name="edge"))).gateway.id
    fields: dict[str, Any] = {"type": "api.updated", "action": Action.UPDATE, "entity_type": "Api", "entity_id": "a"}
    await context.hub.publish(Event(gateway_id=gateway_id, **fields))
    headers = {"Authorization": "Bearer default-admin-token"}
    handles = {}
    for kind in (LLM_PROVIDER, REST_API, MCP_PROXY):
        body = ARTIFACTS[kind.kind] | {"gateways": [gateway_id]}
        made = await browser.post(f"/api/v1/{kind.collection}", json=body, headers=headers)
        assert made.status_code == 201, made.text
        handles[kind.collection] = made.json()["handle"]
    return {"gateway_id": "edge", "offset": "1", "handle": "openai", **handles}


async def test_no_query_of_any_page_is_a_mistake_of_ours(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        named = await _fill(browser, context)
        asked = 0
        for path, parameters in _pages():
            collection = path.split("/")[1]
            place = path.format_map(named | {"artifact_id": named.get(collection, "nobody")})
            for query in ({}, *({name: value} for name in parameters for value in _VALUES)):
                answer = await browser.get(place, params=query)
                assert answer.status_code < 500, (place, query)
                asked += 1
    assert asked > 300
