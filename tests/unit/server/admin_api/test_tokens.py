"""Bad tokens are limited before anything is looked up for them, and metrics may ask for a token of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from gatecast.controlplane.access.admin_tokens import AdminTokens
from gatecast.server.admin_api import AdminContext
from gatecast.settings import Settings

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]

_METRICS_TOKEN = "a-token-for-metrics"


async def _guess(client: httpx.AsyncClient, number: int, **headers: str) -> int:
    answer = await client.get("/api/v1/gateways", headers={"Authorization": f"Bearer guess-{number}", **headers})
    if answer.status_code == 429:
        assert (answer.json()["type"], answer.headers["Retry-After"]) == ("urn:gatecast:problem:too-many-attempts", "5")
    return answer.status_code


async def test_bad_tokens_are_limited_without_the_database(open_api: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """X-Forwarded-For changes nothing; a token that was good still works; JWTs and console log-ins count as well."""
    async with open_api(settings=Settings(connect_rate=5)) as (client, _):
        assert (await client.get("/api/v1/gateways")).status_code == 200
        answers = [await _guess(client, number, **{"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(5)]
        assert answers == [401] * 5
        with monkeypatch.context() as patch:
            patch.setattr(AdminTokens, "caller_with_digest", _never)
            patch.setattr(AdminTokens, "caller_with", _never)
            assert [await _guess(client, number) for number in range(5)] == [429] * 5
        assert (await client.get("/api/v1/gateways")).status_code == 200


async def _never(*_: object) -> Any:  # noqa: ANN401 - never returns
    raise AssertionError("it was looked up")


async def test_a_trusted_proxy_may_say_who_guesses(open_api: OpenApi) -> None:
    settings = Settings(connect_rate=2, trusted_proxies=(ip_network("127.0.0.1/32"),))
    async with open_api(settings=settings) as (client, _):
        answers = [await _guess(client, number, **{"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(6)]
        assert answers == [401] * 6
        again = [await _guess(client, number, **{"X-Forwarded-For": "192.0.2.1"}) for number in range(2)]
        assert again == [401, 429]


async def test_metrics_are_open_unless_a_token_is_set(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        assert (await client.get("/metrics", headers={"Authorization": ""})).status_code == 200
    async with open_api(settings=Settings(metrics_token=_METRICS_TOKEN, connect_rate=3)) as (client, _):
        for wrong in ("", "Bearer wrong", f"Basic {_METRICS_TOKEN}"):
            refused = await client.get("/metrics", headers={"Authorization": wrong})
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert (await client.get("/metrics", headers={"Authorization": "Bearer wrong"})).status_code == 429


async def test_the_metrics_token_reads_metrics_and_nothing_else(open_api: OpenApi) -> None:
    headers = {"Authorization": f"Bearer {_METRICS_TOKEN}"}
    async with open_api(settings=Settings(metrics_token=_METRICS_TOKEN)) as (client, _):
        assert "gatecast_" in (await client.get("/metrics", headers=headers)).text
        assert (await client.get("/api/v1/gateways", headers=headers)).status_code == 401
        assert (await client.get("/metrics")).status_code == 401
