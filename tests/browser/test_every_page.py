"""Every page in both themes: nobody is kept out, its own rules are kept, and a picture of each is taken."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from gatecast.client import GatewayClient, GatewayEvent, Reject
from gatecast.testing.doubles.recording_gateway import EAGER
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

_AXE = (Path(__file__).parent / "vendor/axe.js").read_text()

#: Every rule is tried on every node; what passed is not told, which would take longer than to try it.
_VIOLATIONS = "async rules => (await axe.run({runOnly: rules, resultTypes: ['violations']})).violations"

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

#: Where pictures are put, for people to look at; nowhere when it is not set.
_PICTURES = os.environ.get("GATECAST_TEST_PICTURES")

_WIDTHS = (375, 1600)

_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

#: A failure counts once it was tried so often.
_TRIES = 10

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
async def test_every_page_is_accessible_and_keeps_its_own_rules(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
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
                await _look(page, name)


@pytest.mark.timeout(600)
async def test_so_is_every_state_of_them(open_stage: Any) -> None:  # noqa: ANN401
    """Without a row and with many; rejected and failed; with a dialog, an error, or a secret that is shown once."""
    async with open_stage() as stage:
        page = await stage.open("/")
        for name in ("", "gateways", "events", "rollouts", "llm-providers", "llm-providers/new", "audit"):
            await page.goto(f"{stage.url}/{name}")
            await _look(page, f"empty-{name.replace('/', '-') or 'overview'}")
        await _look_at_what_was_rejected(stage, page)
        await _look_at_what_has_failed(stage, page)
        for number in range(60):
            await stage.operator.ask(
                "POST", "/gateways", {"name": f"edge-{number:02}", "displayName": f"Shop {number}"}
            )
        for name in ("", "gateways", "gateways/bulk"):
            await page.goto(f"{stage.url}/{name}")
            await _look(page, f"many-{name.replace('/', '-') or 'overview'}")
        await _look_at_a_session_that_ended(stage, page)


async def _look_at_what_was_rejected(stage: Any, page: Page) -> None:  # noqa: ANN401
    async def reject(event: GatewayEvent) -> None:
        raise Reject(f"cannot apply {event.type}: the upstream orders.example.com cannot be resolved")

    access = await stage.operator.create_gateway("rejects")
    await page.goto(f"{stage.url}/tail")
    await expect(page.locator("#tail-state")).to_have_text("Live")
    async with GatewayClient(stage.pods[0].gateways, access.token, ssl=False, options=EAGER) as client:
        running = asyncio.create_task(client.run(reject))
        await stage.operator.publish(access.id)
        await expect(page.locator("#tail-rows tr")).to_contain_text("Rejected")
        await _look(page, "tail-rows")
        for name, path in (("event", f"gateways/{access.id}/events/1"), ("overview", "")):
            await page.goto(f"{stage.url}/{path}")
            await _look(page, f"rejected-{name}")
        await page.goto(f"{stage.url}/gateways/{access.id}")
        await expect(page.get_by_role("region", name="Rejected, and waiting for you")).to_be_visible()
        await _look(page, "rejected-gateway")
        running.cancel()
        await asyncio.wait({running})
    await page.get_by_role("button", name="Delete …").click()
    await _look(page, "gateway-delete")
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="New token").click()
    await _look(page, "gateway-token")


async def _look_at_what_has_failed(stage: Any, page: Page) -> None:  # noqa: ANN401
    access = await stage.operator.create_gateway("fails")
    async with UnmodifiedGateway(stage.pods[0].gateway_host, access.token, follow_artifacts=True) as gateway:
        await stage.operator.connections(access.id, 1)
        for _ in range(_TRIES):
            gateway.fail_next_apply("the upstream cannot be resolved")
        made = await stage.operator.ask("POST", "/llm-providers", _PROVIDER | {"gateways": [access.id]})
        await page.goto(f"{stage.url}/llm-providers/{made['id']}")
        await expect(page.get_by_role("row", name="fails")).to_contain_text("Failed")
        await _look(page, "failed-provider")
        for name in ("rollouts", "llm-providers"):
            await page.goto(f"{stage.url}/{name}")
            await _look(page, f"failed-{name}")
        await page.goto(f"{stage.url}/llm-providers/new")
        await page.get_by_role("button", name="Add guardrail").click()
        offered = page.locator("#guardrail-dialog .rows button")
        await expect(offered.first).to_be_visible()
        await _look(page, "guardrails")
        await offered.filter(has_text="set-headers").first.click()
        await _look(page, "guardrail")
        await page.get_by_role("button", name="Close").click()
        await page.locator("#name").fill("x")
        await page.locator("#version").fill("one")
        await page.locator("[name=template][value=anthropic]").check()
        await page.locator("#submit").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await _look(page, "provider-new-errors")


async def _look_at_a_session_that_ended(stage: Any, page: Page) -> None:  # noqa: ANN401
    await page.goto(f"{stage.url}/gateways/new")
    await page.get_by_label("Name", exact=True).fill("edge")
    await stage.context.clear_cookies()
    await page.get_by_role("button", name="Add gateway").click()
    await _look(page, "login-again")
    await page.fill("#token", stage.token)
    await page.get_by_role("button", name="Log in").click()
    await _look(page, "resume")


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


async def _look(page: Page, name: str) -> None:
    """Nobody is kept out of the page in either theme, and it is as wide as the window; take its pictures."""
    await page.wait_for_load_state()
    await page.evaluate(_AXE)
    for theme in _THEMES:
        await page.emulate_media(color_scheme=theme)
        grave = [
            (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"][:3]])
            for each in await page.evaluate(_VIOLATIONS, _RULES)
            if each["impact"] in ("serious", "critical", "moderate")
        ]
        assert grave == [], f"{name}-{theme}"
    for width in _WIDTHS:
        await page.set_viewport_size({"width": width, "height": 1000})
        wide = await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, f"{name} is wider than a window of {width}"
        for theme in _THEMES if _PICTURES else ():
            await page.emulate_media(color_scheme=theme)
            await page.screenshot(path=f"{_PICTURES}/{name}-{theme}-{width}.png", full_page=True)


async def test_the_documentation_of_the_api_asks_nobody_else(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open("/docs")
        await page.locator("#documentation .opblock").first.wait_for()


async def test_the_log_in_page(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open("/", logged_in=False)
        await _look(page, "login")
