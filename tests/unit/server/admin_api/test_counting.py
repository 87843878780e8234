"""Answers are counted by route, and nobody outside can make the metrics grow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import httpx

from gatecast.server.admin_api import AdminContext
from gatecast.telemetry import metrics

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]


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
