"""Logging in through an OIDC issuer: what is begun in one browser ends there, once, and everywhere when asked to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gatecast.server.admin_api.oidc import OidcIssuer
from gatecast.server.console import oidc_login
from gatecast.testing.doubles.oidc_issuer import SmallIssuer

OpenConsole = Callable[..., Any]


@asynccontextmanager
async def _opened(open_console: OpenConsole) -> AsyncIterator[tuple[httpx.AsyncClient, SmallIssuer]]:
    async with SmallIssuer.running() as issuer, open_console() as (browser, context):
        settings = replace(context.settings, oidc_client_id="console")
        known = OidcIssuer(issuer.address, audience="gatecast", organization_claim="organization", role_claim="role")
        issuer.claims = {"role": "admin"}
        browser._transport.app.state.context = replace(context, settings=settings, oidc=known)
        yield browser, issuer


async def _at_the_issuer(browser: httpx.AsyncClient, target: str = "/gateways") -> str:
    """Begin a log-in, and let the issuer send the browser back: the address that it is sent to."""
    begun = await browser.get("/login/oidc", params={"next": target})
    assert begun.status_code == 303, begun.text
    async with httpx.AsyncClient() as outside:
        answer = await outside.get(begun.headers["location"])
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


async def _log_in(browser: httpx.AsyncClient, target: str = "/gateways") -> httpx.Response:
    return await browser.get(await _at_the_issuer(browser, target))


async def test_a_person_logs_in_and_goes_on_where_they_were(open_console: OpenConsole) -> None:
    async with _opened(open_console) as (browser, _):
        assert "/login/oidc?next=%2Fgateways" in (await browser.get("/login?next=/gateways")).text
        done = await _log_in(browser)
        assert done.status_code == 200
        assert 'content="0;url=/gateways"' in done.text
        cookies = " ".join(done.headers.get_list("set-cookie")).lower()
        assert "gatecast_session=" in cookies
        assert "samesite=strict" in cookies
        shown = await browser.get("/gateways")
        assert shown.status_code == 200
        assert "Log out everywhere" in shown.text


async def test_the_way_to_the_issuer_tells_no_secret(open_console: OpenConsole) -> None:
    async with _opened(open_console) as (browser, _):
        begun = await browser.get("/login/oidc?next=//elsewhere.example")
        asked = {name: value for name, [value] in parse_qs(urlsplit(begun.headers["location"]).query).items()}
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"] == "http://pod/login/oidc/callback"
        assert asked.keys() == {
            "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
            "code_challenge_method",
        }  # fmt: skip
        assert "samesite=lax" in begun.headers["set-cookie"].lower()
        done = await _log_in(browser, "//elsewhere.example")
        assert 'content="0;url=/"' in done.text


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"nonce": "of another log-in"}, "not valid"),
        ({"aud": "another client"}, "not valid"),
        ({"iss": "https://another.example"}, "not valid"),
        ({"sub": None}, "not valid"),
        ({"organization": None}, "does not name one organization"),
        ({"role": "cook"}, "neither admin nor viewer"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_token_that_is_not_for_this_logs_nobody_in(
    open_console: OpenConsole, claims: dict[str, Any], told: str
) -> None:
    async with _opened(open_console) as (browser, issuer):
        issuer.claims |= claims
        refused = await _log_in(browser)
        assert refused.status_code == 401
        assert told in refused.text
        assert (await browser.get("/gateways")).status_code == 303


async def test_what_another_browser_began_logs_nobody_in(open_console: OpenConsole) -> None:
    """A code that is planted in a victim's browser does not work, nor does a used one."""
    async with _opened(open_console) as (browser, issuer):
        back = await _at_the_issuer(browser)
        async with httpx.AsyncClient(transport=browser._transport, base_url="http://pod") as other:
            assert (await other.get(back)).status_code == 401
        assert (await browser.get(back.replace("state=", "state=x"))).status_code == 401
        back = await _at_the_issuer(browser)
        kept = dict(browser.cookies)
        assert (await browser.get(back)).status_code == 200
        browser.cookies.update(kept)
        assert (await browser.get(back)).status_code == 401
        browser.cookies.clear()
        issuer.refusal = "access_denied"
        assert "access_denied" in (await _log_in(browser)).text


async def test_a_log_in_that_takes_too_long_is_begun_again(
    open_console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _opened(open_console) as (browser, _):
        back = await _at_the_issuer(browser)
        monkeypatch.setattr(oidc_login, "_TIME", -1)
        assert "took too long" in (await browser.get(back)).text


async def test_a_viewer_changes_nothing(open_console: OpenConsole) -> None:
    async with _opened(open_console) as (browser, issuer):
        issuer.claims["role"] = ["cook", "viewer"]
        await _log_in(browser)
        assert "You have read-only access." in (await browser.get("/gateways")).text
        assert (await browser.post("/gateways/new", data={"name": "mine"})).status_code == 403


async def test_logging_out_everywhere_ends_the_sessions_of_this_person_alone(open_console: OpenConsole) -> None:
    async with _opened(open_console) as (browser, issuer):
        await _log_in(browser)
        async with (
            httpx.AsyncClient(transport=browser._transport, base_url="http://pod") as second,
            httpx.AsyncClient(transport=browser._transport, base_url="http://pod") as other,
        ):
            await _log_in(second)
            issuer.claims["sub"] = "grace"
            await _log_in(other)
            assert (await second.get("/gateways")).status_code == 200
            await browser.post("/logout/everywhere")
            assert (await browser.get("/gateways")).status_code == 303
            assert (await second.get("/gateways")).status_code == 303
            assert (await other.get("/gateways")).status_code == 200
            issuer.claims["sub"] = "ada"
            await _log_in(second)
            assert (await second.get("/gateways")).status_code == 200


async def test_without_an_issuer_there_is_no_such_way(open_console: OpenConsole) -> None:
    async with open_console() as (browser, _):
        assert "Log in through" not in (await browser.get("/login")).text
        assert (await browser.get("/login/oidc")).status_code == 404
        assert (await browser.get("/login/oidc/callback?code=a&state=b")).status_code == 404
