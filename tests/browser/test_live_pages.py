"""A page that follows changes shows the last one, whatever its answers meet on their way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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


async def test_time_alone_takes_the_focus_from_nobody(open_stage: Any) -> None:  # noqa: ANN401
    """A focused row keeps the focus until something has changed; once the focus is elsewhere, the page asks."""
    async with open_stage() as stage:
        await stage.operator.create_gateway("edge")
        page = await stage.open("/audit")
        await page.add_init_script(_TELL)
        await page.goto(f"{stage.url}/gateways")
        await expect(page.locator(".live").first).to_have_text("Live")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "hx-request" in request.headers else None)
        await page.get_by_role("link", name="edge").focus()
        await page.evaluate("window.tell('alive', '')")
        await expect(page.get_by_role("link", name="edge")).to_be_focused()
        assert asked == []
        await page.evaluate("document.activeElement.blur()")
        async with page.expect_request(lambda request: "hx-request" in request.headers):
            await page.evaluate("window.tell('alive', '')")


async def test_the_tail_says_when_its_pod_cannot_read(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        page = await stage.open("/audit")
        await page.add_init_script(_TELL)
        await page.goto(f"{stage.url}/tail")
        state = page.locator("#tail-state")
        await expect(state).to_have_text("Live")
        for kind, data, said in (
            ("away", '{"seconds": 2}', "The database is away; shown as of"),
            ("back", "{}", "Live"),
        ):
            await page.evaluate("([kind, data]) => window.tell(kind, data)", [kind, data])
            await expect(state).to_contain_text(said)


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


async def test_charts_do_not_take_an_old_measurement_for_the_present_one(open_stage: Any) -> None:  # noqa: ANN401
    """A pod that can read and not write answers as before, with the last that was measured."""
    async with open_stage() as stage:
        page = await stage.open("/audit")
        ages = iter((timedelta(minutes=2), timedelta()))

        async def answer(route: Route) -> None:
            moment = {
                "at": (datetime.now(UTC) - next(ages)).isoformat(),
                "recordedPerSecond": 1.0,
                "confirmedPerSecond": 1.0,
                "lagSeconds": 7.0,
                "confirmedAfterP50": None,
                "confirmedAfterP99": None,
            }
            await route.fulfill(json={"items": [moment], "next": None})

        await page.route("**/console/history", answer)
        for state, lag, shown in (
            ("Nothing measured since", "unknown", "\N{EN DASH}"),
            ("Measured every 15 seconds.", "7 s", "7 s"),
        ):
            await page.goto(stage.url)
            await expect(page.locator("#charts-state")).to_contain_text(state)
            chart = page.locator("#lag-chart")
            await expect(chart).to_have_attribute("aria-label", f"Now: oldest unconfirmed event {lag}")
            await expect(page.locator("#lag-legend b")).to_have_text(shown)


async def test_the_form_for_a_provider_follows_its_gateways_as_pages_do(open_stage: Any) -> None:  # noqa: ANN401
    """Its stream is opened again, what is told while it asks is asked for, and so is what had no answer."""
    async with open_stage() as stage:
        access = await stage.operator.create_gateway("edge")
        page = await stage.open("/audit")
        await page.clock.install()
        await page.add_init_script(_TELL)
        await page.route(_STREAMS, lambda route: route.fulfill(status=502))
        await page.goto(f"{stage.url}/llm-providers/new")
        trouble = page.locator("#gateways-live")
        await expect(trouble).to_have_text("Connecting again")
        await page.unroute_all()
        asked: asyncio.Queue[Route] = asyncio.Queue()
        await page.route("**/llm-providers/new?*", asked.put)
        await page.clock.run_for(10_000)
        await expect(trouble).to_be_hidden()
        first = await asyncio.wait_for(asked.get(), PATIENCE)
        before = await first.fetch()
        # Deliveries of gateways are shown as they are now, not as they were when the first question was asked.
        await stage.operator.publish(access.id)
        await page.evaluate("window.tell('changed', '')")
        await first.fulfill(response=before)
        second = await asyncio.wait_for(asked.get(), PATIENCE)
        await second.abort()
        await expect(trouble).to_contain_text("This pod does not answer")
        await page.unroute_all()
        await page.clock.run_for(10_000)
        await expect(trouble).to_be_hidden()
        await expect(page.locator("#gateways .end")).to_contain_text("1 behind")


async def test_the_gateways_of_the_last_search_are_shown(open_stage: Any) -> None:  # noqa: ANN401
    """Whenever the answers to the ones before it come, and whether they come at all."""
    async with open_stage() as stage:
        for name in ("edge-1", "edge-2"):
            await stage.operator.create_gateway(name)
        page = await stage.open("/audit")

        async def many(route: Route) -> None:
            answer = await route.fetch()
            await route.fulfill(response=answer, body=(await answer.text()).replace('data-more=""', 'data-more="9"'))

        await page.route("**/llm-providers/new", many)
        await page.route(_STREAMS, lambda route: route.fulfill(status=204))
        await page.goto(f"{stage.url}/llm-providers/new")
        asked: asyncio.Queue[Route] = asyncio.Queue()
        await page.route("**/llm-providers/new?*", asked.put)
        search = page.locator("#gateway-search")
        await search.evaluate("input => { input.hidden = false; }")
        await search.fill("edge-1")
        first = await asyncio.wait_for(asked.get(), PATIENCE)
        await search.fill("edge-2")
        await first.abort()
        last = await asyncio.wait_for(asked.get(), PATIENCE)
        assert last.request.url.endswith("gateway_q=edge-2")
        await last.continue_()
        await expect(page.locator("#gateways .text")).to_have_text(["edge-2"])


async def test_the_answer_to_a_closed_dialog_is_not_shown_in_the_next(open_stage: Any) -> None:  # noqa: ANN401
    async with open_stage() as stage:
        await stage.operator.create_gateway("edge")
        page = await stage.open("/llm-providers/new")
        await page.locator("[name=gateways]").check()
        asked: asyncio.Queue[Route] = asyncio.Queue()
        await page.route("**/console/policies?*", asked.put)
        routes = []
        for _ in range(2):
            await page.get_by_role("button", name="Add guardrail").click()
            routes.append(await asyncio.wait_for(asked.get(), PATIENCE))
            if len(routes) == 1:
                await page.keyboard.press("Escape")
        offered = page.locator("#guardrail-dialog .rows button")
        for route, name in ((routes[1], "of-the-second"), (routes[0], "of-the-first")):
            policy = {"name": name, "version": "v1.0.0", "description": "", "parameters": {}}
            async with page.expect_event("requestfinished"):
                await route.fulfill(json={"items": [policy], "silent": []})
            await expect(offered).to_contain_text(["of-the-second"])
