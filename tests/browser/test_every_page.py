"""Every page in both themes: nobody is kept out, its own rules are kept, and a picture of each is taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from gatecast.testing.unmodified_gateway import UnmodifiedGateway

_AXE = (Path(__file__).parent / "vendor/axe.js").read_text()

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

#: Where pictures are put, for people to look at; nowhere when it is not set.
_PICTURES = os.environ.get("GATECAST_TEST_PICTURES")

_WIDTHS = (375, 1600)

_PROVIDER = {
    "name": "OpenAI for the web team",
    "version": "v1.0",
    "context": "/openai",
    "description": "Chat and embeddings",
    "template": "openai",
    "upstream": {
        "url": "https://api.openai.com/v1",
        "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"},
    },
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_page_is_accessible_and_keeps_its_own_rules(open_stage: Any, theme: str) -> None:  # noqa: ANN401
    async with open_stage(color_scheme=theme) as stage:
        ask = stage.operator.ask
        current = await stage.operator.create_gateway("edge-eu-1")
        offline = await stage.operator.create_gateway("北京网关-offline")
        long = await stage.operator.create_gateway("بوابة القاهرة مع اسم طويل جدا " + "long-" * 17)
        async with UnmodifiedGateway(stage.pods[0].gateway_host, current.token, follow_artifacts=True):
            await stage.operator.connections(current.id, 1)
            provider = await ask("POST", "/llm-providers", _PROVIDER | {"gateways": [current.id, offline.id]})
            await ask("POST", f"/llm-providers/{provider['id']}/api-keys", {"name": "mobile-app"})
            for gateway in (current, offline, long):
                await stage.operator.publish(gateway.id, {"note": "a change"})
            await stage.operator.confirmed(current.id, 3)
            page = await stage.open("/")
            for name, path in _pages(current.id, offline.id, long.id, provider["id"]).items():
                await page.goto(f"{stage.url}{path}")
                await page.wait_for_load_state()
                await _check(page, name)
                await _photograph(page, f"{name}-{theme}")


_TABS = ("keys", "access", "limits", "guardrails", "revisions", "difference", "yaml")


def _pages(current: str, offline: str, long: str, provider: str) -> dict[str, str]:
    artifact = f"/llm-providers/{provider}"
    return {
        "overview": "/",
        "gateways": "/gateways",
        "gateways-sorted": "/gateways?sort=lag",
        "gateways-bulk": "/gateways/bulk?connection=offline",
        "rollouts": "/rollouts",
        "gateways-none": "/gateways?q=nothing-like-this",
        "gateway": f"/gateways/{current}",
        "gateway-offline": f"/gateways/{offline}",
        "gateway-long": f"/gateways/{long}",
        "gateway-new": "/gateways/new",
        "event": f"/gateways/{current}/events/1",
        "event-waiting": f"/gateways/{offline}/events/1",
        "event-missing": f"/gateways/{offline}/events/999",
        "providers": "/llm-providers",
        "provider": artifact,
        **{f"provider-{tab}": f"{artifact}?tab={tab}" for tab in _TABS},
        "provider-new": "/llm-providers/new",
        "proxies-empty": "/llm-proxies",
        "templates": "/llm-templates",
        "template": "/llm-templates/openai",
        "template-new": "/llm-templates/new",
        "events": "/events",
        "events-found": f"/events?gateway={current}",
        "events-none": f"/events?gateway={current}&type=nothing",
        "tail": "/tail",
        "audit": "/audit",
        "settings": "/settings",
        "missing": "/gateways/none",
    }


async def _check(page: Page, name: str) -> None:
    await page.evaluate(_AXE)
    found = await page.evaluate("rules => axe.run({runOnly: rules})", _RULES)
    grave = [
        (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical", "moderate")
    ]
    assert grave == [], name
    wide = await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not wide, f"{name} is wider than the window"


async def _photograph(page: Page, name: str) -> None:
    for width in _WIDTHS:
        await page.set_viewport_size({"width": width, "height": 1000})
        wide = await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, f"{name} is wider than a window of {width}"
        if _PICTURES:
            await page.screenshot(path=f"{_PICTURES}/{name}-{width}.png", full_page=True)


async def test_the_documentation_of_the_api_asks_nobody_else(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open("/docs")
        await page.locator("#documentation .opblock").first.wait_for()


async def test_the_log_in_page(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open("/", logged_in=False)
        await _check(page, "login")
        await _photograph(page, "login-light")
