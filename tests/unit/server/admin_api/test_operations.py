"""`/healthz`, `/readyz`, `/metrics`, `/openapi.json` and `/asyncapi.yaml`: for operators and authors of clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network

import httpx
import pytest
import yaml
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from gatecast.server.admin_api import AdminContext, health_shortcut
from gatecast.server.admin_api.app import build_routes
from gatecast.server.admin_api.counting import ShortWay
from gatecast.settings import Settings
from gatecast.telemetry import metrics

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_EVENT = {"type": "api.deployed", "action": "CREATE", "entityType": "Api", "entityId": "a-1"}


async def _value(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return next(sample.value for sample in samples if sample.name == name)


async def test_a_pod_that_answers_is_alive(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        answer = await client.get("/healthz", headers={"Authorization": ""})
    assert answer.json() == {"status": "alive"}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/healthz"), ("GET", "/healthz?a=b"), ("HEAD", "/healthz"), ("POST", "/healthz")]
)
async def test_the_short_way_of_the_health_check_answers_as_its_route(
    open_api: OpenApi, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """It passes no layer of the framework, which cost more than everything else about it."""
    answers = []
    async with open_api() as (client, _):
        for way in ("short", "long"):
            if way == "long":
                monkeypatch.setattr(health_shortcut, "_ROUTE", ShortWay("/none"))
            answer = await client.request(method, path, headers={"X-Request-ID": "of-mine"})
            answers.append((answer.status_code, answer.headers, answer.content))
    assert answers[0] == answers[1]


async def test_a_health_check_passes_no_layer_of_the_framework(
    open_api: OpenApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api() as (client, _):

        async def refuse(*_: object) -> None:
            raise AssertionError("a layer of the framework was reached")

        monkeypatch.setattr(FastAPI, "__call__", refuse)
        assert (await client.get("/healthz")).status_code == 200


async def test_a_pod_is_ready_until_it_says_why_not(open_api: OpenApi) -> None:
    problems: list[str] = []

    async def report() -> list[str]:
        return problems

    async with open_api(problems=report) as (client, _):
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        problems.append("the database does not answer")
        unready = await client.get("/readyz")
        assert (unready.status_code, unready.json()["problems"]) == (503, problems)


async def test_what_is_published_is_counted(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Repeated ids too, and how long it took."""
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/events"
        names = ("gatecast_events_published_total", "gatecast_events_duplicate_total", "gatecast_publish_seconds_count")
        before = [await _value(client, name) for name in names]
        event_id = (await client.post(path, json=_EVENT)).json()["eventId"]
        await client.post(path, json=_EVENT | {"eventId": event_id})
        after = [await _value(client, name) for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1, 2]


async def test_what_others_report_is_shown(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        counters = [
            f"gatecast_{name}_total"
            for name in ("events_delivered", "events_confirmed", "events_rejected", "reader_passes")
        ]
        before = [await _value(client, name) for name in counters]
        metrics.delivered(3)
        metrics.confirmed(4)
        metrics.rejected()
        metrics.reader_passed()
        after = [await _value(client, name) for name in counters]
        *counted, passes = [now - then for now, then in zip(after, before, strict=True)]
        assert counted == [3, 4, 1]
        # The hub's own reader may pass as well.
        assert passes >= 1
        metrics.watch(connections=lambda: 7, behind=lambda: 5, alarms=lambda: 2, queued=lambda: 8, wakeups=lambda: True)
        gauges = (
            "gatecast_gateway_connections",
            "gatecast_gateways_behind",
            "gatecast_pod_alarms",
            "gatecast_publish_queue_events",
            "gatecast_wakeup_connected",
        )
        assert [await _value(client, name) for name in gauges] == [7, 5, 2, 8, 1]


async def test_the_documentation_is_open(open_api: OpenApi) -> None:
    """The console shows it to people at `/docs`."""
    async with open_api() as (client, _):
        answer = await client.get("/openapi.json", headers={"Authorization": ""})
        assert (answer.status_code, answer.json()["info"]["title"]) == (200, "Gatecast")


async def test_nothing_waits_while_the_documentation_is_put_together(
    open_api: OpenApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a second, and gateways are served by the same loop."""
    async with open_api() as (client, _):
        others_are_answered = threading.Event()
        app = client._transport.app  # type: ignore[attr-defined]
        monkeypatch.setattr(app, "openapi", lambda: {"others were answered": others_are_answered.wait(30)})
        asked = asyncio.create_task(client.get("/openapi.json"))
        assert (await client.get("/healthz")).status_code == 200
        others_are_answered.set()
        assert (await asked).json() == {"others were answered": True}


async def test_routes_are_built_before_the_first_request(open_api: OpenApi) -> None:
    """Whatever FastAPI does when a router is first reached is done by then."""
    async with open_api() as (client, _):
        app = client._transport.app  # type: ignore[attr-defined]
        await build_routes(app)
        reached = [route for route in app.router.routes if hasattr(route, "effective_candidates")]
        assert reached
        assert all(route._effective_candidates for route in reached)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/api/v1/gateways", 405)])
async def test_what_does_not_exist_is_a_problem_too(open_api: OpenApi, method: str, path: str, status: int) -> None:
    async with open_api() as (client, _):
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["status"], answer.json()["type"]) == (status, status, "about:blank")
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("trusted", "said", "scheme"),
    [
        (True, ["https"], "https"),
        (True, ["http", "https"], "https"),
        (True, ["https, http"], "http"),
        (True, ["HTTPS"], "https"),
        (True, ["javascript"], "http"),
        (True, [], "http"),
        (False, ["https"], "http"),
    ],
)
async def test_redirects_lead_back_to_where_the_client_came_from(
    open_api: OpenApi,
    trusted: bool,  # noqa: FBT001 - a case
    said: list[str],
    scheme: str,
) -> None:
    """Only a trusted proxy may say so; of several the last one counts."""
    settings = Settings(trusted_proxies=(ip_network("127.0.0.1/32"),) if trusted else ())
    async with open_api(settings=settings) as (client, _):
        headers = [("X-Forwarded-Proto", each) for each in said]
        answer = await client.get("/api/v1/gateways/", headers=headers)
    assert answer.status_code == 307
    assert answer.headers["Location"] == f"{scheme}://pod/api/v1/gateways"


async def test_a_pod_serves_the_protocol_that_it_speaks(open_api: OpenApi) -> None:
    """To everybody, as it serves the documentation of its API."""
    async with open_api() as (client, _):
        answer = await client.get("/asyncapi.yaml", headers={"Authorization": ""})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/yaml")
        assert yaml.safe_load(answer.text)["asyncapi"] == "3.0.0"
