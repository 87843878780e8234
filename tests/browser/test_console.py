"""What people do with the console, in a real browser."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page, expect

from gatecast.controlplane.access.admin_tokens import Role
from gatecast.testing.operator import Operator
from gatecast.testing.processes.deployment import address_of
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

#: A browser on a busy machine takes its time.

_PROVIDER = {
    "name": "OpenAI",
    "version": "v1.0",
    "context": "/openai",
    "template": "openai",
    "upstream": {
        "url": "https://api.openai.com/v1",
        "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"},
    },
}


async def test_logging_in_and_out(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open("/gateways?q=edge", logged_in=False)
        await expect(page).to_have_title("Log in · Gatecast")
        await page.fill("#token", "wrong-token-of-nobody")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("not a valid admin token")
        await page.fill("#token", stage.token)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("searchbox", name="Search by name")).to_have_value("edge")
        await page.get_by_role("button", name="Log out").click()
        await page.goto(f"{stage.url}/")
        await expect(page).to_have_title("Log in · Gatecast")


async def test_a_gateway_is_created_connects_and_the_page_turns_by_itself(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open("/")
        await expect(page.get_by_text("No gateway yet")).to_be_visible()
        await page.get_by_role("link", name="Add gateway").first.click()
        await page.get_by_label("Name", exact=True).fill("edge-eu-1")
        await page.get_by_role("button", name="Add gateway").click()
        await expect(page.get_by_role("heading", name="edge-eu-1")).to_be_visible()
        await page.get_by_role("button", name="New token").click()
        token = (await page.locator("#token-value").text_content() or "").strip()
        assert token.startswith("gcg_")
        await page.get_by_role("link", name="Done").click()
        await expect(page.get_by_text(token)).to_have_count(0)
        await expect(page.locator("#gateway .chip").first).to_have_text("Offline")
        async with UnmodifiedGateway(stage.pods[0].gateway_host, token, follow_artifacts=True):
            await expect(page.locator("#gateway .chip").first).to_have_text("Connected")
        await expect(page.locator("#gateway .chip").first).to_have_text("Offline")


async def test_a_provider_is_added_by_the_form_and_turns_deployed(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        online = await stage.operator.create_gateway("online")
        await stage.operator.create_gateway("offline")
        async with UnmodifiedGateway(stage.pods[0].gateway_host, online.token, follow_artifacts=True):
            await stage.operator.connections(online.id, 1)
            page = await stage.open("/llm-providers/new")
            await expect(page.get_by_role("checkbox", name="online Connected")).to_be_checked()
            await expect(page.get_by_role("checkbox", name="offline Offline")).not_to_be_checked()
            await page.get_by_label("Name", exact=True).fill("Möglicher Anbieter")
            await expect(page.locator("#context")).to_have_value("/moglicher-anbieter")
            await page.locator("#context").fill("/mine")
            await page.get_by_label("Name", exact=True).fill("OpenAI")
            await expect(page.locator("#context")).to_have_value("/mine")
            await page.get_by_role("radio", name="OpenAI", exact=False).first.check()
            await expect(page.locator("#url")).to_have_value("https://api.openai.com/v1")
            await expect(page.locator("#url")).not_to_be_editable()
            await page.get_by_role("checkbox", name="online Connected").uncheck()
            await expect(page.locator("#submit")).to_be_disabled()
            await expect(page.locator("#submit-reason")).to_have_text("Choose at least one gateway.")
            await page.get_by_role("checkbox", name="online Connected").check()
            await page.get_by_role("checkbox", name="offline Offline").check()
            await expect(page.locator("#offline-warning")).to_be_visible()
            await page.locator("#api_key").fill("a-key-of-the-provider")
            await page.locator("#submit").click()
            await expect(page.get_by_role("heading", name="OpenAI v1.0")).to_be_visible()
            await expect(page.get_by_role("row", name="online")).to_contain_text("Deployed")
            row = page.get_by_role("row", name="offline")
            await expect(row).to_contain_text("Pending")
            await expect(row).to_contain_text("delivered when it returns")


async def test_every_wrong_field_is_named_at_once_and_nothing_typed_is_lost(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        await stage.operator.create_gateway("edge")
        page = await stage.open("/llm-providers/new")
        await page.get_by_label("Name", exact=True).fill("x")
        await page.locator("#version").fill("one")
        await page.locator("#context").fill("no-slash/")
        await page.locator("#description").fill("What I typed")
        await page.get_by_role("radio", name="Anthropic", exact=False).check()
        await page.get_by_role("checkbox", name="edge").check()
        await page.locator("#submit").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.get_by_role("alert")).to_contain_text("Version: It does not have the form described")
        for field in ("name", "version", "context", "api_key"):
            await expect(page.locator(f"#{field}-error")).to_be_visible()
            await expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("#name")).to_be_focused()
        await expect(page.locator("#description")).to_have_value("What I typed")
        await expect(page.get_by_role("radio", name="Anthropic", exact=False)).to_be_checked()
        await expect(page.get_by_role("checkbox", name="edge")).to_be_checked()


async def test_what_was_typed_survives_a_session_that_ended(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        await stage.operator.create_gateway("edge")
        page = await stage.open("/llm-providers/new")
        await _fill(page)
        await stage.context.clear_cookies()
        await page.locator("#submit").click()
        await expect(page.get_by_role("alert")).to_contain_text("nothing that you typed is lost")
        await page.fill("#token", stage.token)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("button", name="Go back to the form").click()
        await expect(page.locator("#name")).to_have_value("OpenAI")
        await expect(page.locator("#api_key")).to_have_value("a-key-of-the-provider")
        await page.locator("#submit").click()
        await expect(page.get_by_role("heading", name="OpenAI v1.0")).to_be_visible()


async def test_the_form_by_keyboard_alone(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        await stage.operator.create_gateway("edge")
        page = await stage.open("/llm-providers/new")
        await page.locator("#name").focus()
        await page.keyboard.type("OpenAI")
        await _tab_to(page, "[name=template]")
        await page.keyboard.press("Space")
        await _tab_to(page, "#api_key")
        await page.keyboard.type("a-key-of-the-provider")
        await _tab_to(page, "[name=gateways]")
        await page.keyboard.press("Space")
        await _tab_to(page, "#submit")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="OpenAI v1.0")).to_be_visible()


async def test_the_form_without_scripts(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage(java_script_enabled=False) as stage:
        await stage.operator.create_gateway("edge")
        page = await stage.open("/llm-providers/new")
        await page.locator("#name").fill("OpenAI")
        await page.locator("[name=template]").first.check()
        await page.locator("#submit").click()
        await expect(page.locator("#api_key-error")).to_be_visible()
        await expect(page.locator("#gateways-error")).to_be_visible()
        await page.locator("#api_key").fill("a-key-of-the-provider")
        await page.locator("[name=gateways]").check()
        await page.locator("#submit").click()
        await expect(page.get_by_role("heading", name="OpenAI v1.0")).to_be_visible()
        for path in ("/", "/gateways", "/llm-providers", "/audit", "/settings"):
            await page.goto(f"{stage.url}{path}")
            await expect(page.get_by_role("heading", level=1)).to_be_visible()


async def test_guardrails_are_what_the_gateways_have_loaded(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        async with UnmodifiedGateway(stage.pods[0].gateway_host, access.token, follow_artifacts=True):
            await stage.operator.connections(access.id, 1)
            page = await stage.open("/llm-providers/new")
            await _fill(page)
            await page.get_by_role("button", name="Add guardrail").click()
            offered = page.locator("#guardrail-dialog .rows button")
            await expect(offered.first).to_be_visible()
            await page.get_by_label("Search guardrails").fill("set-headers")
            await offered.locator("visible=true").first.click()
            await page.get_by_role("button", name="Add guardrail").last.click()
            await expect(page.locator("#guardrails li")).to_have_count(1)
            await page.get_by_role("button", name="Remove").click()
            await expect(page.locator("#guardrails li")).to_have_count(0)


async def test_an_event_is_followed_in_the_live_tail_paused_and_resumed(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        page = await stage.open("/tail")
        await expect(page.locator("#tail-state")).to_have_text("Live")
        await stage.operator.publish(access.id)
        await expect(page.locator("#tail-rows tr")).to_have_count(1)
        await page.get_by_role("button", name="Pause").click()
        for _ in range(3):
            await stage.operator.publish(access.id)
        await expect(page.locator("#tail-state")).to_have_text("Paused")
        await expect(page.locator("#tail-rows tr")).to_have_count(1)
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#tail-rows tr")).to_have_count(4)
        await page.get_by_label("State").select_option("confirmed")
        await expect(page.locator("#tail-rows tr:visible")).to_have_count(0)
        await page.get_by_label("State").select_option("stored")
        await page.get_by_label("Type contains").fill("api.up")
        await expect(page.locator("#tail-rows tr:visible")).to_have_count(4)
        await expect(page.locator("#tail-command")).to_have_text("gatecast tail --type api.up")
        await page.locator("#tail-rows a", has_text="4").click()
        await expect(page.get_by_role("heading", name="api.updated")).to_be_visible()


async def test_a_viewer_sees_everything_and_changes_nothing(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        page = await stage.open("/gateways", token=await stage.issue(role=Role.VIEWER))
        await page.get_by_role("link", name="edge").click()
        await expect(page.get_by_role("heading", name="edge")).to_be_visible()
        for name in ("New token", "Delete …", "Revoke"):
            await expect(page.get_by_role("button", name=name)).to_have_count(0)
        await page.goto(f"{stage.url}/gateways/new")
        await page.get_by_label("Name", exact=True).fill("mine")
        await page.get_by_role("button", name="Add gateway").click()
        await expect(page.get_by_role("alert")).to_contain_text("allows only reading")
        assert (await stage.operator.gateway(access.id))["name"] == "edge"


async def test_the_page_goes_on_when_its_pod_is_killed(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage(pods=2) as stage:
        access = await stage.operator.create_gateway("edge")
        page = await stage.open(f"/gateways/{access.id}")
        await expect(page.locator(".live").first).to_have_text("Live")
        stage.pods[0].kill()
        await stage.pods[0].ended()
        await expect(page.locator(".live").first).to_have_attribute("data-live", "off")
        stage.balancer.retarget(address_of(stage.pods[1].api))
        await expect(page.locator(".live").first).to_have_attribute("data-live", "on")
        async with Operator(stage.pods[1].api, stage.token) as operator:
            await operator.publish(access.id)
        await expect(page.locator("#gateway")).to_contain_text("1 event waits for it")


async def _fill(page: Page) -> None:
    await page.locator("#name").fill("OpenAI")
    await page.locator("[name=template][value=openai]").check()
    await page.locator("#api_key").fill("a-key-of-the-provider")
    await page.locator("[name=gateways]").first.check()


async def _tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by keyboard")


async def test_an_artifact_is_taken_away_deployed_elsewhere_and_compared(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        first = await stage.operator.create_gateway("first")
        await stage.operator.create_gateway("second")
        async with UnmodifiedGateway(stage.pods[0].gateway_host, first.token, follow_artifacts=True):
            await stage.operator.connections(first.id, 1)
            made = await stage.operator.ask("POST", "/llm-providers", _PROVIDER | {"gateways": [first.id]})
            await stage.operator.ask("PATCH", f"/llm-providers/{made['id']}", {"context": "/moved"})
            page = await stage.open(f"/llm-providers/{made['id']}")
            row = page.get_by_role("row", name="first")
            await expect(row).to_contain_text("Deployed")
            await page.get_by_label("Gateway", exact=True).select_option(label="second")
            await page.get_by_role("button", name="Deploy", exact=True).click()
            await expect(page.get_by_role("row", name="second")).to_contain_text("Pending")
            await page.get_by_role("row", name="first").get_by_role("button", name="Undeploy").click()
            await expect(page.get_by_role("row", name="first")).to_contain_text("Undeployed")
            await page.get_by_role("link", name="Revisions").click()
            await page.get_by_role("row", name="1 first").get_by_role("link", name="Difference").click()
            await expect(page.get_by_role("region", name="Difference", exact=True)).to_contain_text(
                '+  context: "/moved"'
            )
