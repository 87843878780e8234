"""A page that follows changes shows the last one, whatever its answers meet on their way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from gatecast.testing.eventually import PATIENCE

#: Counts what the page's stream tells.
_COUNT_CHANGES = """
window.changesTold = 0;
window.EventSource = class extends EventSource {
  constructor(...all) { super(...all); this.addEventListener("changed", () => { window.changesTold += 1; }); }
};
"""

#: Tells a page something as if its stream did.
_TELL = """
window.EventSource = class extends EventSource {
  constructor(...all) {
    super(...all);
    window.tell = (type, data) => this.dispatchEvent(new MessageEvent(type, { data }));
  }
};
"""

#: The streams of pages.
_STREAMS = re.compile(r"/(live|console/stream)(\?|$)")


@dataclass
class _Held:
    """Answers that were given, and have not come yet."""

    given: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def _first_answer_held(page: Page, url: str) -> AsyncIterator[_Held]:
    """The first answer to a part of the page comes when it is released, at the latest at the end."""
    held = _Held()

    async def hold(route: Route) -> None:
        if held.given.is_set() or "hx-request" not in route.request.headers:
            await route.continue_()
            return
        held.given.set()
        answer = await route.fetch()
        await held.released.wait()
        await route.fulfill(response=answer)

    await page.route(url, hold)
    try:
        yield held
    finally:
        held.released.set()
        await page.unroute_all(behavior="wait")


async def _told(page: Page, more: int = 1) -> None:
    """Return when the page's stream has told of so many more changes than now."""
    told = await page.evaluate("window.changesTold")
    await page.wait_for_function("count => window.changesTold >= count", arg=told + more)


async def _live_page(stage: Any, path: str) -> Page:  # noqa: ANN401
    page: Page = await stage.open("/gateways")
    await page.add_init_script(_COUNT_CHANGES)
    await page.goto(f"{stage.url}{path}")
    await expect(page.locator(".live").first).to_have_text("Live")
    return page


async def test_a_change_that_is_told_while_the_page_asks_is_shown(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        page = await _live_page(stage, f"/gateways/{access.id}")
        async with _first_answer_held(page, f"**/gateways/{access.id}") as held:
            await stage.operator.publish(access.id)
            await asyncio.wait_for(held.given.wait(), PATIENCE)
            told = asyncio.create_task(_told(page))
            await stage.operator.publish(access.id)
            await told
            held.released.set()
            await expect(page.locator("#gateway")).to_contain_text("2 events wait for it")
            await expect(page.locator(".live").first).to_have_text("Live")


async def test_a_page_whose_question_failed_asks_again(open_stage: Any) -> None:  # noqa: ANN401
    """Whether the pod answered with an error, or not at all; meanwhile it says that it may be out of date."""
    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        page = await _live_page(stage, f"/gateways/{access.id}")
        failures: Iterator[Callable[[Route], Awaitable[None]]] = iter(
            (lambda route: route.fulfill(status=503), lambda route: route.abort())
        )
        failed = asyncio.Event()

        async def fail(route: Route) -> None:
            failure = None if "hx-request" not in route.request.headers else next(failures, None)
            await (failure(route) if failure else route.continue_())
            failed.set()

        await page.route(f"**/gateways/{access.id}", fail)
        await stage.operator.publish(access.id)
        await asyncio.wait_for(failed.wait(), PATIENCE)
        await expect(page.locator("#gateway")).to_contain_text("1 event waits for it")
        await expect(page.locator(".live").first).to_have_text("Live")


async def test_what_was_asked_before_a_change_is_shown_only_until_the_change_is(open_stage: Any) -> None:  # noqa: ANN401
    """A filter was typed, and its answer is older than the change that came in between: neither is lost."""
    async with open_stage() as stage:
        await stage.operator.create_gateway("edge-1")
        page = await _live_page(stage, "/gateways")
        async with _first_answer_held(page, "**/gateways?*") as held:
            await page.locator("#q").fill("edge")
            await asyncio.wait_for(held.given.wait(), PATIENCE)
            told = asyncio.create_task(_told(page))
            await stage.operator.create_gateway("edge-2")
            await told
            held.released.set()
            await expect(page).to_have_url(re.compile(r"\?q=edge"))
            await expect(page.get_by_role("link", name="edge-2")).to_be_visible()


async def test_a_page_asks_again_while_nothing_is_told(open_stage: Any) -> None:  # noqa: ANN401
    """Ages pass, and not everything that it shows is watched; while the database is away it would learn nothing."""
    async with open_stage() as stage:
        page = await stage.open("/audit")
        await page.add_init_script(_TELL)
        await page.goto(f"{stage.url}/gateways")
        await expect(page.locator(".live").first).to_have_text("Live")
        for quiet in ("away", "alive"):
            await page.evaluate("kind => window.tell(kind, '0')", quiet)
        await expect(page.locator(".live").first).to_contain_text("The database is away")
        async with page.expect_request(lambda request: "hx-request" in request.headers):
            for kind in ("back", "alive"):
                await page.evaluate("kind => window.tell(kind, '')", kind)
        await expect(page.locator(".live").first).to_have_text("Live")


@pytest.mark.parametrize(("path", "mark"), [("/gateways", ".live"), ("/tail", "#tail-state")])
async def test_a_stream_that_fails_or_falls_silent_is_followed_again(open_stage: Any, path: str, mark: str) -> None:  # noqa: ANN401
    """A balancer without a pod answers 502, which ends a stream for ever; a pod that stands still says nothing."""
    async with open_stage() as stage:
        page = await stage.open("/audit")
        await page.clock.install()
        await page.route(_STREAMS, lambda route: route.fulfill(status=502))
        await page.goto(f"{stage.url}{path}")
        shown = page.locator(mark).first
        await expect(shown).to_contain_text("Connecting again")
        await page.unroute_all()
        await page.clock.run_for(10_000)
        await expect(shown).to_have_text("Live")
        stage.balancer.deafen()
        await page.clock.run_for(40_000)
        await expect(shown).to_contain_text("Nothing is heard from this pod")
        stage.balancer.heal()
        await page.clock.run_for(10_000)
        await expect(shown).to_have_text("Live")


@pytest.mark.parametrize("path", ["/gateways", "/tail"])
async def test_who_was_logged_out_meanwhile_is_asked_to_log_in(open_stage: Any, path: str) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open(path)
        await expect(page.get_by_text("Live", exact=True).first).to_be_visible()
        await page.context.clear_cookies()
        stage.balancer.cut()
        stage.balancer.heal()
        await expect(page.locator("#token")).to_be_visible()
