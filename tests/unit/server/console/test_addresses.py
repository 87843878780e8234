"""Names and handles in the paths of pages, and forms that hold what no browser sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from gatecast.controlplane.access.gateways import GatewayFields
from gatecast.server.admin_api import AdminContext

Console = AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]
OpenConsole = Callable[..., Console]
LogIn = Callable[..., Awaitable[None]]

_API = {
    "name": "Orders",
    "handle": "orders",
    "upstream": {"main": {"url": "https://orders.example"}},
    "operations": [{"method": "GET", "path": "/*"}],
}
_TOKEN = {"Authorization": "Bearer default-admin-token"}


async def test_pages_are_found_by_names_and_handles(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        await context.gateways.create("default", GatewayFields(name="edge"))
        event = {"type": "a.b", "action": "UPDATE", "entityType": "a", "entityId": "1"}
        for path, body in (("rest-apis", {**_API, "gateways": ["edge"]}), ("gateways/edge/events", event)):
            made = await browser.post(f"/api/v1/{path}", json=body, headers=_TOKEN)
            assert made.status_code == 201, made.text
        pages = ("/gateways/edge", "/gateways/edge/events/1", "/rest-apis/orders", "/rest-apis/orders?tab=keys")
        for page in pages:
            shown = await browser.get(page)
            assert shown.status_code == 200, f"{page}: {shown.text}"
        for page in ("/gateways/no-such", "/rest-apis/no-such", "/llm-providers/orders"):
            assert (await browser.get(page)).status_code == 404, page
        done = await browser.post("/rest-apis/orders/undeploy", data={"gateway": "edge"})
        assert (done.status_code, (await browser.get(done.headers["location"])).status_code) == (303, 200)
        assert (await browser.post("/gateways/edge/tokens")).status_code == 200
        assert (await browser.post("/gateways/edge/delete")).status_code == 303


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/gateways/edge/parked/retry", {"entity_id": "x" * 9_000}),
        ("/gateways/edge/parked/skip", {"entity_type": "\x00"}),
        ("/gateways/edge/parked/retry", {}),
        ("/gateways/edge/connections/%00/disconnect", {}),
        ("/gateways/edge/tokens/%00/revoke", {}),
        ("/gateways/%00/delete", {}),
        ("/gateways/bulk", {"q": "x" * 9_000, "action": "disconnect", "expected": "9" * 5_000, "after": "\x00"}),
        ("/gateways/bulk", {"q": "x" * 9_000, "intent": "review"}),
        ("/rest-apis/orders/keys/%00/revoke", {}),
        ("/rest-apis/orders/keys", {"name": "x" * 9_000}),
        ("/rest-apis/orders/deployments/%00/restore", {}),
        ("/rest-apis/%00/delete", {}),
    ],
)
async def test_no_form_is_answered_with_a_mistake_of_ours(
    open_console: OpenConsole, log_in: LogIn, path: str, form: dict[str, Any]
) -> None:
    """Nor is a file in the place of a text, which no form of ours sends."""
    async with open_console() as (browser, context):
        await log_in(browser)
        await context.gateways.create("default", GatewayFields(name="edge"))
        assert (await browser.post("/api/v1/rest-apis", json=_API, headers=_TOKEN)).status_code == 201
        answers = [await browser.post(path, data=form)]
        answers += [await browser.post(path, files=dict.fromkeys(form, ("file", b"\xff")))] if form else []
        for answer in answers:
            assert answer.status_code < 500, answer.text
            assert "Traceback" not in answer.text
