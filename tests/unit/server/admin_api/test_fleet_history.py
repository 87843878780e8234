"""`/api/v1/fleet/history`: what is measured, by whom, and who sees it, on every database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from gatecast.controlplane.fleet_samples import INTERVAL, KEPT_FOR, FleetSamples, Sample
from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.fleet import Fleets
from gatecast.server.admin_api.fleet_history import FleetMeter

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]
Confirm = Callable[[AdminContext, str, int], Awaitable[None]]

_EVENT = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "api-1"}
_OTHER = {"Authorization": "Bearer other-token"}


class _Samples(FleetSamples):
    """Those of a database whose clock is moved by hand."""

    moment = 1_800_000_000.0

    async def now(self) -> float:
        return self.moment


@pytest.fixture(autouse=True)
def _hand_moved_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Samples, "moment", 1_800_000_000.0)
    monkeypatch.setattr(FleetSamples, "now", _Samples.now)
    monkeypatch.setattr(FleetSamples, "moment", _Samples.moment, raising=False)


def _meter(context: AdminContext) -> FleetMeter:
    # Each looks by itself, as the meters of different pods do.
    fleets = Fleets(context.hub, context.gateways)
    return FleetMeter(fleets, context.hub.storage.survey, FleetSamples(context.hub.storage.database))


async def _history(client: httpx.AsyncClient, **options: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - of httpx
    answer = await client.get("/api/v1/fleet/history", **options)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def _later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(FleetSamples, "moment", FleetSamples.moment + seconds)  # type: ignore[attr-defined] # of the test


async def test_what_happened_between_two_measurements_is_told_as_rates(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await _meter(context).measure("default")
        assert await _history(client) == []
        for _ in range(30):
            await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
        await confirm(context, gateway_id, 15)
        _later(monkeypatch, INTERVAL)
        await _meter(context).measure("default")
        [moment] = await _history(client)
        assert (moment["recordedPerSecond"], moment["confirmedPerSecond"]) == (30 / INTERVAL, 15 / INTERVAL)
        assert moment["lagSeconds"] > 0
        assert (moment["confirmedAfterP50"], moment["confirmedAfterP99"]) == (None, None)
        assert await _history(client, headers=_OTHER) == []
        await client.delete(f"/api/v1/gateways/{gateway_id}")
        _later(monkeypatch, INTERVAL)
        await _meter(context).measure("default")
        assert (await _history(client))[-1]["recordedPerSecond"] == 0


async def test_of_several_pods_one_measures(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """And one that ends while it measures leaves no measurement."""
    async with open_api() as (client, context):
        await new_gateway(client)
        samples = FleetSamples(context.hub.storage.database)
        now = await samples.now()
        assert await samples.claim("default", now)
        assert not await samples.claim("default", now)
        assert await samples.claim("other", now)
        await _meter(context).measure("default")
        assert await samples.since("default", now - INTERVAL) == []


async def test_latencies_are_told_and_old_measurements_go(open_api: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_api() as (client, context):
        samples = FleetSamples(context.hub.storage.database)
        for _ in range(3):
            now = await samples.now()
            assert await samples.claim("default", now)
            sample = Sample(measured_at=now, recorded=1, confirmed=1, lag=0.5, median=0.0012, slowest=0.25)
            await samples.store("default", sample)
            _later(monkeypatch, INTERVAL)
        moments = await _history(client)
        assert [(each["confirmedAfterP50"], each["confirmedAfterP99"]) for each in moments] == [(0.0012, 0.25)] * 2
        assert (await client.get("/api/v1/fleet/history?minutes=0")).status_code == 422
        _later(monkeypatch, KEPT_FOR)
        await _meter(context).measure("default")
        assert len(await samples.since("default", 0)) <= 1


async def test_only_organizations_that_somebody_looks_at_are_measured(open_api: OpenApi) -> None:
    async with open_api() as (_, context):
        now = 100.0
        fleets = Fleets(context.hub, context.gateways, clock=lambda: now)
        await fleets.seen("unasked")
        await fleets.look("asked")
        assert fleets.looked_at(within=60) == ["asked"]
        now += 61
        assert fleets.looked_at(within=60) == []
