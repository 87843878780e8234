"""One pod shows how all gateways stand; the others, and one that cannot tell, show nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from gatecast import EventHub, Settings
from gatecast.errors import StorageUnavailable
from gatecast.server import fleet_metrics
from gatecast.server.fleet_metrics import code_of, count_gateways
from gatecast.server.probe import LeftProbes
from gatecast.storage.contract import DeliverySummary
from gatecast.telemetry import metrics
from gatecast.testing.contracts.backend import make_event


def _shown() -> dict[str, float]:
    return {
        sample.labels["why"]: sample.value
        for artifact_kind in metrics.registry.collect()
        for sample in artifact_kind.samples
        if sample.name == "gatecast_gateways"
    }


def _oldest(connected: str) -> float | None:
    return metrics.registry.get_sample_value("gatecast_oldest_unconfirmed_event_seconds", {"connected": connected})


def _settings(tmp_path: Path, pod_id: str) -> Settings:
    return Settings(database=f"sqlite:///{tmp_path / 'gatecast.db'}", pod_id=pod_id, poll_interval=timedelta(seconds=1))


async def test_the_first_living_pod_counts_and_the_others_show_nothing(tmp_path: Path) -> None:
    async with (
        EventHub.open(settings=_settings(tmp_path, "a")) as first,
        EventHub.open(settings=_settings(tmp_path, "b")) as second,
    ):
        for hub in (first, second):
            await hub.delivery.presence.until_known()
        for name in ("one", "two", "three"):
            await first.register_gateway(name)
        await first.publish(make_event("one"))
        subscription = await second.subscribe("two")
        await count_gateways(first, "a", LeftProbes(first))
        assert _shown() == {"offline": 2, "current": 1}
        assert _oldest("yes") == 0.0
        assert _oldest("no") == pytest.approx(0, abs=60)
        await count_gateways(second, "b", LeftProbes(second))
        assert _shown() == {}
        assert _oldest("no") is None
        await subscription.close()


async def test_what_cannot_be_told_now_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise StorageUnavailable("gone")

    async with EventHub.open(settings=_settings(tmp_path, "a")) as hub:
        await hub.delivery.presence.until_known()
        await hub.register_gateway("one")
        await count_gateways(hub, "a", LeftProbes(hub))
        assert _shown() == {"offline": 1}
        monkeypatch.setattr(hub.storage.survey, "counts", fail)
        await count_gateways(hub, "a", LeftProbes(hub))
        assert _shown() == {}


async def test_they_are_counted_again_soon_whatever_a_count_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure says nothing of the cost; and a count that was slow once is no reason to stop counting."""
    now, counted_at = 0.0, []
    counts = iter([(0.1, True), (1.0, True), (30.0, False), (30.0, True), (0.1, True)])

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def count(*_: object) -> bool:
        nonlocal now
        counted_at.append(now)
        cost, succeeded = next(counts, (0.0, None))
        if succeeded is None:
            raise asyncio.CancelledError
        now += cost
        return succeeded

    monkeypatch.setattr(fleet_metrics, "count_gateways", count)
    monkeypatch.setattr(fleet_metrics, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(fleet_metrics, "time", SimpleNamespace(monotonic=lambda: now))
    with pytest.raises(asyncio.CancelledError):
        await fleet_metrics.keep_fleet_metrics(None, "a")  # type: ignore[arg-type] # it is not asked
    pauses = [round(later - earlier) for earlier, later in pairwise(counted_at)]
    assert pauses == [15, 21, 45, 90, 15]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "current"),
        ({"resync_reason": "epoch", "pods": ()}, "resync-needed"),
        ({"parked": True}, "rejected"),
        ({"pods": (), "lag": 3}, "offline"),
        ({"lag": 3, "lag_seconds": 1.0}, "slow"),
        ({"lag": 3, "lag_seconds": 60.0}, "not-confirming"),
    ],
)
def test_codes_are_those_of_why(changes: dict[str, object], code: str) -> None:
    standing = {"lag": 0, "lag_seconds": 0.0, "last_seen": None, "resync_reason": "", "pods": ("a",), "parked": False}
    assert code_of(DeliverySummary(gateway_id="g", head=9, **{**standing, **changes})) == code  # type: ignore[arg-type]
    assert fleet_metrics.SLOW_UNTIL == 10.0
