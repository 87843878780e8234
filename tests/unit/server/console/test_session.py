"""Logging in and out of the console, and what becomes of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TypeAlias

import httpx
import pytest

from gatecast.controlplane.encryption import Encryption
from gatecast.server.admin_api import AdminContext
from gatecast.server.sessions import ABSOLUTE_LIMIT, COOKIE, IDLE_LIMIT, Session, SessionCookies

OpenConsole: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
LogIn: TypeAlias = Callable[..., Awaitable[None]]

_SESSION = Session(digest="d", organization="default", began=1_000, seen=1_000)


async def test_a_page_asks_to_log_in_and_goes_on_where_the_person_was(open_console: OpenConsole) -> None:
    async with open_console() as (browser, _):
        asked = await browser.get("/gateways?q=edge")
        assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=%2Fgateways%3Fq%3Dedge")
        form = await browser.get(asked.headers["location"])
        assert 'value="/gateways?q=edge"' in form.text
        entered = await browser.post("/login", data={"token": "default-admin-token", "next": "/gateways?q=edge"})
        assert (entered.status_code, entered.headers["location"]) == (303, "/gateways?q=edge")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "default-admin-token" not in cookie
        assert (await browser.get("/gateways")).status_code == 200


async def test_the_documentation_of_the_api_needs_no_session(open_console: OpenConsole) -> None:
    async with open_console() as (browser, _):
        answer = await browser.get("/docs")
        assert answer.status_code == 200
        assert "/openapi.json" in answer.text


async def test_a_wrong_token_is_refused_and_not_shown(open_console: OpenConsole) -> None:
    async with open_console() as (browser, _):
        refused = await browser.post("/login", data={"token": "not-a-token", "next": "/"})
        assert refused.status_code == 401
        assert "not a valid admin token" in refused.text
        assert "not-a-token" not in refused.text
        assert COOKIE not in browser.cookies


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x", "/\n"]
)
async def test_nobody_is_sent_elsewhere(open_console: OpenConsole, target: str) -> None:
    async with open_console() as (browser, _):
        entered = await browser.post("/login", data={"token": "default-admin-token", "next": target})
        assert entered.headers["location"] == "/"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
async def test_what_another_site_sends_is_refused(open_console: OpenConsole, log_in: LogIn, origin: str | None) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        del browser.headers["Origin"]
        headers = {} if origin is None else {"Origin": origin}
        answer = await browser.post("/gateways/new", data={"name": "edge"}, headers=headers)
        assert answer.status_code == 403
        assert await context.gateways.page("default", after="", limit=10) == []


async def test_a_revoked_token_ends_the_session(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        token_id, token = await context.admin_tokens.issue("default")
        await log_in(browser, token)
        assert (await browser.get("/")).status_code == 200
        await context.admin_tokens.revoke(token_id)
        assert (await browser.get("/")).status_code == 303


async def test_logging_out_ends_the_session(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, _):
        await log_in(browser)
        await browser.post("/logout")
        assert (await browser.get("/")).status_code == 303


async def test_what_was_typed_survives_a_session_that_ended(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, _):
        await log_in(browser)
        browser.cookies.clear()
        typed = {"name": "edge-1", "display_name": "Edge <1>", "vhost": "", "type": "ai"}
        asked = await browser.post("/gateways/new", data=typed)
        assert asked.status_code == 401
        assert 'name="display_name" value="Edge &lt;1&gt;"' in asked.text
        entered = await browser.post("/login", data={**typed, "token": "default-admin-token", "next": "/gateways/new"})
        assert 'action="/gateways/new"' in entered.text
        again = await browser.post("/gateways/new", data={**typed, "intent": "review"})
        assert 'value="Edge &lt;1&gt;"' in again.text
        saved = await browser.post("/gateways/new", data={**typed, "intent": "save"})
        assert saved.status_code == 303


async def test_another_tenant_sees_nothing(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, _):
        await log_in(browser)
        made = await browser.post("/gateways/new", data={"name": "edge-of-default", "type": "regular"})
        path = made.headers["location"]
        assert "edge-of-default" in (await browser.get("/gateways")).text
        await log_in(browser, "other-token")
        assert "edge-of-default" not in (await browser.get("/gateways")).text
        for hidden in (path, f"{path}/events/1"):
            assert (await browser.get(hidden)).status_code == 404
        assert (await browser.post(f"{path}/delete")).status_code == 404


async def test_every_page_forbids_what_it_does_not_need(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, _):
        await log_in(browser)
        for path in ("/", "/gateways", "/gateways/none", "/login", "/llm-providers/new", "/tail", "/settings"):
            headers = (await browser.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
            assert headers["x-content-type-options"] == "nosniff"


def test_a_session_ends_when_nobody_uses_it_and_in_any_case() -> None:
    assert not _SESSION.is_over(1_000 + IDLE_LIMIT)
    assert _SESSION.is_over(1_001 + IDLE_LIMIT)
    used = replace(_SESSION, seen=1_000 + ABSOLUTE_LIMIT)
    assert not used.is_over(1_000 + ABSOLUTE_LIMIT)
    assert used.is_over(1_001 + ABSOLUTE_LIMIT)


def test_every_pod_with_the_key_opens_a_cookie_and_nobody_else() -> None:
    key = bytes(range(32))
    cookie = SessionCookies(Encryption([key])).encrypt(_SESSION)
    assert SessionCookies(Encryption([key])).open(cookie) == _SESSION
    assert SessionCookies(Encryption([bytes(32)])).open(cookie) is None
    assert SessionCookies(Encryption([])).open(cookie) is None
    for broken in ("", "x", "ü", cookie[:-4], cookie[4:], cookie.swapcase()):
        assert SessionCookies(Encryption([key])).open(broken) is None


def test_a_cookie_is_renewed_now_and_then() -> None:
    assert _SESSION.renewed(1_010) is None
    assert _SESSION.renewed(1_060) == replace(_SESSION, seen=1_060)
