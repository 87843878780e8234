"""The context that the form makes of a name is a suggestion; one that was typed is a choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatecast.controlplane.access.gateways import GatewayFields
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER

OpenConsole = Callable[..., Any]
LogIn = Callable[..., Any]


async def test_two_names_that_make_one_context_get_two(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        gateway = (await context.gateways.create("default", GatewayFields(name="edge"))).gateway
        await log_in(browser)
        typed = {
            "version": "v1.0",
            "description": "",
            "template": "openai",
            "url": "https://llm.example.test/v1",
            "api_key": "a-key",
            "gateways": gateway.id,
        }
        for name in ("Café", "CAFE"):
            made = await browser.post("/llm-providers/new", data={**typed, "name": name, "context": "/cafe"})
            assert made.status_code == 303, made.text
        page = (await context.control_plane.artifacts.page("default", LLM_PROVIDER, after="", limit=5)).items
        assert [(each.handle, each.document.context) for each in page] == [("cafe", "/cafe"), ("cafe-2", "/cafe-2")]
        refused = await browser.post("/llm-providers/new", data={**typed, "name": "Another", "context": "/cafe"})
        assert refused.status_code == 422
        assert "is served under the context" in refused.text
