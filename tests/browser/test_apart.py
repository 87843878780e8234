"""Roles, log-in, and outages from which pages recover, in a real browser."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page, expect

from gatecast.testing.doubles.oidc_issuer import SmallIssuer
from gatecast.testing.operator import Operator
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import UnmodifiedGateway


async def _add_provider(page: Page, name: str) -> str:
    """Add a provider by the form; where the browser is then."""
    await page.goto(f"{urlsplit(page.url).scheme}://{urlsplit(page.url).netloc}/llm-providers/new")
    await page.locator("#name").fill(name)
    await page.locator("[name=template][value=openai]").check()
    await page.locator("#api_key").fill("a-key-of-the-provider")
    await page.locator("[name=gateways]").first.check()
    await page.locator("#submit").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    return urlsplit(page.url).path


async def test_tenants_see_nothing_of_each_other_and_choose_names_freely(open_stage: Any) -> None:  # noqa: ANN401
    """Equal names give equal handles in two organizations, and different ones in the same."""
    async with open_stage() as stage:
        mine = await stage.operator.create_gateway("edge")
        page = await stage.open()
        provider = await _add_provider(page, "OpenAI")
        second = await _add_provider(page, "Open-AI")
        await expect(page.get_by_text("open-ai", exact=False).first).to_be_visible()
        assert provider != second
        other_token = await stage.issue(f"{stage.organization}-other")
        async with Operator(stage.pods[0].api, other_token) as other:
            await other.create_gateway("edge")
        await page.get_by_role("button", name="Log out").click()
        await stage.log_in(page, other_token)
        theirs = await _add_provider(page, "OpenAI")
        assert theirs != provider
        for path in (f"/gateways/{mine.id}", provider, second, f"/gateways/{mine.id}/events/1"):
            answer = await page.goto(f"{stage.url}{path}")
            assert answer is not None
            assert answer.status == 404, path
        for path in ("/", "/gateways", "/llm-providers", "/rollouts", "/audit", "/tail"):
            await page.goto(f"{stage.url}{path}")
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert mine.id not in await page.content(), path
            assert "Open-AI" not in await page.content(), path
        handles = [(await each.ask("GET", "/llm-providers"))["items"] for each in (stage.operator,)]
        assert len({each["handle"] for each in handles[0]}) == 2


async def test_what_is_typed_stays_while_gateways_come_and_change(open_stage: Any) -> None:  # noqa: ANN401
    """Their marks follow, and the warning; the choice is the person's."""
    async with open_stage() as stage:
        first, second = [await stage.operator.create_gateway(name) for name in ("first", "second")]
        page = await stage.open("/llm-providers/new")
        await page.locator("#name").fill("Half typed")
        await page.get_by_role("checkbox", name="second").check()
        await expect(page.locator("#offline-warning")).to_be_visible()
        async with UnmodifiedGateway(stage.pods[0].gateway_host, second.token, follow_artifacts=True):
            await expect(page.get_by_role("checkbox", name="second Connected")).to_be_checked()
            await expect(page.locator("#offline-warning")).to_be_hidden()
            await expect(page.get_by_role("checkbox", name="first")).not_to_be_checked()
            async with UnmodifiedGateway(stage.pods[0].gateway_host, first.token, follow_artifacts=True):
                await expect(page.get_by_role("checkbox", name="first Connected")).not_to_be_checked()
                await stage.operator.create_gateway("third")
        await expect(page.locator("#offline-warning")).to_be_visible()
        await expect(page.locator("#name")).to_have_value("Half typed")
        await expect(page.locator("#context")).to_have_value("/half-typed")


async def test_the_database_goes_away_and_comes_back(
    open_stage: Any,  # noqa: ANN401
    postgres: PostgresServer,
    postgres_url: str,
) -> None:
    """The page keeps what it shows and says so; a form that is sent meanwhile is not lost."""
    name = urlsplit(postgres_url).path.removeprefix("/")
    async with (
        TcpProxy(postgres.socket) as wire,
        open_stage(database=postgres.url(name, address=wire.address)) as stage,
    ):
        access = await stage.operator.create_gateway("edge")
        page = await stage.open("/gateways")
        form = await stage.open("/gateways/new", logged_in=False)
        await form.get_by_label("Name", exact=True).fill("typed meanwhile")
        await expect(page.get_by_role("link", name="edge")).to_be_visible()
        wire.cut()
        answer = await form.context.request.get(f"{stage.url}/gateways")
        assert answer.status == 503
        assert "The database is away" in await answer.text()
        await expect(page.get_by_role("link", name="edge")).to_be_visible()
        await expect(page.locator(".live")).to_contain_text("The database is away; shown as of")
        await form.get_by_role("button", name="Add gateway").click()
        await expect(form.get_by_role("heading", name="The database is away")).to_be_visible()
        wire.heal()
        await form.get_by_role("button", name="Try again").click()
        await expect(form.get_by_role("heading", name="typed meanwhile")).to_be_visible()
        await expect(page.get_by_role("link", name="typed meanwhile")).to_be_visible()
        await expect(page.locator(".live")).to_have_text("Live")
        assert (await stage.operator.gateway(access.id))["name"] == "edge"


async def test_somebody_logs_in_through_the_issuer(open_stage: Any) -> None:  # noqa: ANN401
    """Goes on where they were, sees their organization, and leaves everywhere."""
    async with SmallIssuer.running() as issuer:
        settings = {
            "oidc_issuer": issuer.address,
            "oidc_audience": "gatecast",
            "oidc_client_id": "console",
            "oidc_organization_claim": "organization",
            "oidc_role_claim": "role",
        }
        async with open_stage(settings=settings) as stage:
            issuer.claims = {"role": "admin", "organization": stage.organization}
            stage.allowed.add(urlsplit(issuer.address).netloc)
            await stage.operator.create_gateway("ours")
            page = await stage.open("/gateways?q=our", logged_in=False)
            await page.get_by_role("link", name="Log in through your organization").click()
            await expect(page.get_by_role("searchbox", name="Search by name")).to_have_value("our")
            await expect(page.get_by_role("link", name="ours")).to_be_visible()
            await page.get_by_role("button", name="Log out everywhere").click()
            await page.goto(f"{stage.url}/gateways")
            await expect(page).to_have_title("Log in · Gatecast")
