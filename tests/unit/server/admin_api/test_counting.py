"""Answers are counted by route, and nobody outside can make the metrics grow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network
from uuid import uuid4

import httpx
import pytest

from gatecast.server.admin_api import AdminContext, publish_shortcut
from gatecast.settings import Settings
from gatecast.telemetry import metrics

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_EVENT = {"type": "api.deployed", "action": "CREATE", "entityType": "Api", "entityId": "a-1"}


def _count(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return metrics.registry.get_sample_value("gatecast_http_requests_total", labels) or 0.0


def _series() -> int:
    return sum(
        len(artifact_kind.samples)
        for artifact_kind in metrics.registry.collect()
        if artifact_kind.name.startswith("gatecast_http")
    )


async def test_an_answer_counts_for_its_route_whatever_the_parameters_are(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        before = _count("GET", "/api/v1/gateways/{gateway_id}", 404)
        for _ in range(3):
            assert (await client.get(f"/api/v1/gateways/{uuid4()}")).status_code == 404
        assert _count("GET", "/api/v1/gateways/{gateway_id}", 404) == before + 3


async def test_paths_and_methods_that_are_made_up_are_one_series(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        await client.request("MADEUP", "/made/up")
        before = _series()
        for number in range(5):
            await client.request(f"MADEUP{number}", f"/made/up/{number}")
        assert _series() == before


async def test_a_request_that_is_refused_at_the_door_is_counted(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        before = _count("GET", "/api/v1/gateways", 401)
        assert (await client.get("/api/v1/gateways", headers={"Authorization": "Bearer none"})).status_code == 401
        assert _count("GET", "/api/v1/gateways", 401) == before + 1


@pytest.mark.parametrize("way", ["short", "long"])
async def test_what_is_published_is_counted_whichever_way_it_goes(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Also where it is refused."""
    route = "/api/v1/gateways/{gateway_id}/events"
    if way == "long":
        monkeypatch.setattr(publish_shortcut, "_asked", lambda _: None)
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        for status, asked in ((201, path), (404, f"/api/v1/gateways/{uuid4()}/events")):
            before = _count("POST", route, status)
            assert (await client.post(asked, json=_EVENT)).status_code == status
            assert _count("POST", route, status) == before + 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_health_check_is_counted(open_api: OpenApi, method: str) -> None:
    status, counted = (405, "POST") if method == "POST" else (200, "GET")
    async with open_api() as (client, _):
        before = _count(counted, "/healthz", status)
        assert (await client.request(method, "/healthz")).status_code == status
        assert _count(counted, "/healthz", status) == before + 1


@pytest.mark.parametrize("proxied", [False, True])
async def test_a_mistake_of_ours_is_counted_and_its_answer_names_the_request(
    open_api: OpenApi, monkeypatch: pytest.MonkeyPatch, *, proxied: bool
) -> None:
    """An operator is told of it, and finds the lines that say more."""
    settings = Settings(trusted_proxies=(ip_network("127.0.0.1"),) if proxied else ())
    async with open_api(settings=settings) as (client, context):

        async def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(type(context.gateways), "get", broken)
        before = _count("GET", "/api/v1/gateways/{gateway_id}", 500)
        headers = {"X-Request-ID": "of-mine", "X-Forwarded-Proto": "https"}
        answer = await client.get(f"/api/v1/gateways/{uuid4()}", headers=headers)
        assert (answer.status_code, answer.headers["x-request-id"]) == (500, "of-mine")
        assert answer.headers["content-type"] == "application/problem+json"
        assert _count("GET", "/api/v1/gateways/{gateway_id}", 500) == before + 1
