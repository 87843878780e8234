"""What people see arrive, and what they decide when it does not, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import expect

from gatecast.client import GatewayClient, GatewayEvent, Reject
from gatecast.testing.doubles.recording_gateway import EAGER
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

_UPSTREAM = {
    "url": "https://api.openai.com/v1",
    "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"},
}


#: A failure counts once it was tried so often; further ones are not needed.
_TRIES = 10


def _provider(name: str, *gateways: str) -> dict[str, Any]:
    context = f"/{name.lower()}"
    return {
        "name": name,
        "version": "v1.0",
        "context": context,
        "template": "openai",
        "upstream": _UPSTREAM,
        "gateways": list(gateways),
    }


async def test_roll_outs_turn_deployed_and_failed_with_the_reason_while_one_looks(open_stage: Any) -> None:  # noqa: ANN401
    """On the list, on the roll-outs and on the provider's page, without a reload."""
    async with open_stage() as stage:
        good, bad = [await stage.operator.create_gateway(name) for name in ("good", "bad")]
        rollouts = await stage.open("/rollouts")
        providers = await stage.context.new_page()
        await providers.goto(f"{stage.url}/llm-providers")
        async with (
            UnmodifiedGateway(stage.pods[0].gateway_host, good.token, follow_artifacts=True),
            UnmodifiedGateway(stage.pods[0].gateway_host, bad.token, follow_artifacts=True) as failing,
        ):
            for gateway in (good, bad):
                await stage.operator.connections(gateway.id, 1)
            for _ in range(_TRIES):
                failing.fail_next_apply("the upstream cannot be resolved")
            made = await stage.operator.ask("POST", "/llm-providers", _provider("OpenAI", good.id, bad.id))
            row = rollouts.get_by_role("row", name="OpenAI")
            await expect(row).to_contain_text("1 deployed")
            await expect(row).to_contain_text("1 failed")
            await expect(row).to_contain_text("GATEWAY_PROCESSING_ERROR")
            await expect(providers.get_by_role("row", name="OpenAI")).to_contain_text("1 failed")
            await providers.goto(f"{stage.url}/llm-providers/{made['id']}")
            failed = providers.get_by_role("row", name="bad")
            await expect(failed).to_contain_text("Failed")
            await expect(failed).to_contain_text("GATEWAY_PROCESSING_ERROR")
            failing.plan_no_failures()
            await failed.get_by_role("button", name="Deploy again").click()
            await expect(providers.get_by_role("row", name="bad")).to_contain_text("Deployed")
            await expect(row).to_contain_text("2 deployed")


@asynccontextmanager
async def _running(client: GatewayClient, handle: Callable[[GatewayEvent], Awaitable[None]]) -> AsyncIterator[None]:
    """A gateway that handles events while the block runs."""
    async with client:
        running = asyncio.create_task(client.run(handle))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait({running})


async def test_a_rejected_event_is_retried_and_skipped(open_stage: Any) -> None:  # noqa: ANN401
    """Its entity waits with the reason; one event is applied at the second try, another is left out."""
    rejecting = True

    async def handle(event: GatewayEvent) -> None:
        if rejecting:
            raise Reject(f"cannot apply {event.type}")

    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        async with _running(GatewayClient(stage.pods[0].gateways, access.token, ssl=False, options=EAGER), handle):
            await stage.operator.connections(access.id, 1)
            page = await stage.open(f"/gateways/{access.id}")
            await stage.operator.publish(access.id)
            parked = page.get_by_role("region", name="Rejected, and waiting for you")
            await expect(parked).to_contain_text("cannot apply api.updated")
            rejecting = False
            await parked.get_by_role("button", name="Retry").click()
            await expect(page.get_by_role("row", name="api.updated").first).to_contain_text("Confirmed")
            await expect(parked).to_have_count(0)
            rejecting = True
            await stage.operator.publish(access.id)
            await expect(parked).to_contain_text("offset 3")
            rejecting = False
            await parked.get_by_role("button", name="Skip").click()
            await expect(parked).to_have_count(0)


async def test_an_event_is_followed_hop_by_hop_while_one_looks(open_stage: Any) -> None:  # noqa: ANN401
    """It waits for its gateway; when that comes, the page tells each step, without a reload."""
    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        await stage.operator.publish(access.id)
        page = await stage.open(f"/gateways/{access.id}/events/1")
        steps = page.locator("#way tbody tr td:first-child")
        await expect(steps).to_have_text(["Recorded"])
        await expect(page.locator("#way .lane")).to_contain_text("Waits for a pod that holds the gateway's connection")
        async with UnmodifiedGateway(stage.pods[0].gateway_host, access.token, follow_artifacts=True):
            await expect(steps).to_have_text(["Recorded", "Picked up", "Sent", "Confirmed"])
            await expect(page.locator("#way .chip")).to_have_text("Confirmed")
            await expect(page.locator("#way .lane")).to_contain_text("pod-1")
            await expect(page.locator("#way .lane rect.working")).to_have_count(1)


async def test_an_action_on_all_that_match_asks_for_their_number(open_stage: Any) -> None:  # noqa: ANN401
    """And is found in the audit log with what chose them."""
    async with open_stage() as stage:
        for name in ("edge-1", "edge-2", "other"):
            await stage.operator.create_gateway(name)
        page = await stage.open("/gateways?q=edge")
        await page.get_by_role("link", name="Act on all 2").click()
        await page.get_by_role("radio", name="Disconnect", exact=False).check()
        button = page.get_by_role("button", name="Do it for 2")
        await page.get_by_label("Type 2 to confirm").fill("3")
        await expect(button).to_be_disabled()
        await page.get_by_label("Type 2 to confirm").fill("2")
        await stage.operator.create_gateway("edge-3")
        await button.click()
        await expect(page.get_by_role("alert")).to_contain_text("3 gateways match now, not 2")
        await page.get_by_label("Type 3 to confirm").fill("3")
        await page.get_by_role("button", name="Do it for 3").click()
        await expect(page.get_by_role("status")).to_contain_text("Done for 0 of 3 gateways")
        await page.goto(f"{stage.url}/audit?action=act_on_gateways")
        await expect(page.locator("tbody tr").first).to_contain_text("search=edge")


async def test_a_gateway_is_enrolled_step_by_step(open_stage: Any) -> None:  # noqa: ANN401
    """Each step turns green as it is done, while the page stays as it is."""
    async with open_stage() as stage:
        page = await stage.open("/gateways/new")
        await page.get_by_label("Name", exact=True).fill("edge")
        await page.get_by_role("button", name="Add gateway").click()
        steps = page.locator("#enrol-steps li.done")
        await expect(steps).to_have_count(0)
        await page.get_by_role("button", name="New token").click()
        token = (await page.locator("#token-value").text_content() or "").strip()
        await expect(page.locator("#enrol-settings")).to_contain_text(token)
        await expect(steps).to_have_count(1)
        async with UnmodifiedGateway(stage.pods[0].gateway_host, token, follow_artifacts=True):
            await expect(steps).to_have_count(4)
            await expect(page.locator("#token-value")).to_be_visible()
        await expect(steps).to_have_count(3)


async def test_charts_are_drawn_in_both_themes(open_stage: Any) -> None:  # noqa: ANN401
    """From measurements of this pod, with their latest values in words."""
    async with open_stage() as stage:
        await stage.operator.create_gateway("edge")
        page = await stage.open("/")
        await expect(page.locator("#charts canvas")).to_have_count(3)
        await expect(page.get_by_role("img", name="Now: published unknown, confirmed unknown")).to_be_visible()
        await page.get_by_role("button", name="Light / dark").click()
        await expect(page.locator("#charts canvas")).to_have_count(3)
        await expect(page.locator("#pods tbody tr")).to_have_count(1)
