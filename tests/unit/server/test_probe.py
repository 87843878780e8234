"""The probe of a pod: what arrives on time, what is late, what is missing, and that nobody else sees any of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import NoReturn

import pytest

from gatecast import EventHub, Settings
from gatecast.errors import StorageUnavailable
from gatecast.server import probe as probes
from gatecast.server.admin_api.operations import describe_probe
from gatecast.server.fleet_metrics import count_gateways
from gatecast.server.probe import LeftProbes, Probe, is_probe, log_of, next_pod
from gatecast.telemetry import metrics
from gatecast.testing.eventually import PATIENCE, eventually


def _settings(url: str, pod_id: str) -> Settings:
    # Nothing is picked up unless a test says so.
    return Settings(database=url, pod_id=pod_id, poll_interval=timedelta(hours=1), probe=True)


@asynccontextmanager
async def _pod(url: str, pod_id: str) -> AsyncIterator[tuple[EventHub, Probe]]:
    settings = _settings(url, pod_id)
    async with EventHub.open(settings=settings) as hub:
        await hub.delivery.presence.until_known()
        yield hub, Probe(hub, settings)


@asynccontextmanager
async def _receiving(hub: EventHub, probe: Probe, pod_id: str) -> AsyncIterator[None]:
    """The probe is a connected gateway while the block runs."""
    receiving = asyncio.create_task(probe.receive())

    async def connected() -> bool:
        status = await hub.storage.presence.status([log_of(pod_id)])
        return any(each.connections for each in status.values())

    try:
        await eventually(connected)
        yield
    finally:
        receiving.cancel()
        with suppress(asyncio.CancelledError):
            await receiving


async def _confirmed(hub: EventHub, pod_id: str, offset: int) -> None:
    async def reached() -> bool:
        await hub.delivery.recorder.flush()
        status = (await hub.storage.presence.status([log_of(pod_id)]))[log_of(pod_id)]
        return status.confirmed >= offset

    await eventually(reached)


def _counted() -> dict[str, float]:
    return {
        result: metrics.registry.get_sample_value("gatecast_probes_total", {"result": result}) or 0.0
        for result in metrics.PROBE_RESULTS
    }


def _since(before: dict[str, float]) -> dict[str, float]:
    return {result: value - before[result] for result, value in _counted().items() if value != before[result]}


@pytest.mark.parametrize(
    ("pods", "chosen"),
    [({"b"}, "b"), (set(), "b"), ({"a", "b"}, "a"), ({"a", "b", "c"}, "c"), ({"a", "c"}, "c"), ({"a"}, "a")],
)
def test_each_pod_publishes_to_the_next_one_and_to_itself_if_it_is_alone(pods: set[str], chosen: str) -> None:
    assert next_pod(pods, "b") == chosen


@pytest.mark.parametrize(
    ("poll_interval", "notifications", "seconds"), [(0.5, True, 0.25), (0.05, True, 0.1), (0.5, False, 0.75)]
)
def test_what_is_late_follows_from_how_pods_are_woken(
    poll_interval: float,
    notifications: bool,  # noqa: FBT001 - a case
    seconds: float,
) -> None:
    """Without wake-ups half of the events take longer than half of the poll interval, which an alert notices."""
    settings = Settings(poll_interval=timedelta(seconds=poll_interval), notifications=notifications)
    assert Probe(None, settings).on_time == pytest.approx(seconds)  # type: ignore[arg-type]


async def test_an_event_goes_through_the_other_pod_and_is_judged_by_what_the_database_recorded(
    database_url: str,
) -> None:
    async with _pod(database_url, "a") as (first, sender), _pod(database_url, "b") as (second, receiver):
        before = _counted()
        async with _receiving(second, receiver, "b"):
            sender.on_time = 3_600.0
            await sender.step()
            assert _since(before) == {}
            await _confirmed(second, "b", 1)
            await sender.step()
            assert _since(before) == {"on-time": 1}
            # Wake-ups are lost: it takes longer than it may.
            sender.on_time = -1.0
            await _confirmed(second, "b", 2)
            await sender.step()
            assert _since(before) == {"on-time": 1, "late": 1}
            await _confirmed(second, "b", 3)
        # The pod is frozen: nothing is confirmed, and that is seen one interval later.
        await sender.step()
        await sender.step()
        assert _since(before)["missing"] >= 1
        assert (sender.recent["on-time"], sender.recent["late"]) == (1, 2)
        assert "1 on time, 2 late" in describe_probe(sender)
        assert await first.delete_gateway(log_of("b"))


def test_what_was_noted_long_ago_is_not_said_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next pod may have stopped its probe since: nothing arrives, and nothing is late."""
    now = 1_000.0
    monkeypatch.setattr(probes, "time", SimpleNamespace(monotonic=lambda: now))
    sender = Probe(None, Settings())  # type: ignore[arg-type] # it is not asked
    sender._note(0.01)
    now += 200
    sender._note(0.02)
    assert "of the last 2 events 2 on time" in describe_probe(sender)
    now += 200
    assert "of the last 1 events 1 on time" in describe_probe(sender)
    assert sender.usual_seconds == 0.02
    now += 200
    assert describe_probe(sender) == "on; no event was due in the last five minutes"


async def test_a_pod_that_leaves_in_order_misses_nothing(database_url: str) -> None:
    """It takes its log with it, or begins another one in which the event's place is empty or taken."""
    async with _pod(database_url, "a") as (first, sender), _pod(database_url, "b"):
        before = _counted()
        await sender.step()
        await first.register_gateway(log_of("b"))
        await sender.step()
        await first.delete_gateway(log_of("b"))
        await sender.step()
        await first.register_gateway(log_of("b"))
        await sender.step()
        await first.delete_gateway(log_of("b"))
        await first.register_gateway(log_of("b"))
        await sender.step()
        assert _since(before) == {}


async def test_while_the_database_is_away_each_event_is_missing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> NoReturn:
        raise StorageUnavailable("the wire is cut")

    async with _pod(database_url, "a") as (hub, sender):
        before = _counted()
        monkeypatch.setattr(hub, "append", refuse)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await sender.step()
        assert _since(before) == {"missing": 2}
        assert describe_probe(sender) == "of the last 2 events 2 missing"


async def test_a_log_is_replaced_before_it_grows(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MOST_EVENTS", 2)
    async with _pod(database_url, "a") as (hub, probe):
        receiving = asyncio.create_task(probe.receive())

        async def registered() -> bool:
            return log_of("a") in await hub.storage.presence.status([log_of("a")])

        await eventually(registered)
        for _ in range(2):
            await probe.step()
        await asyncio.wait_for(receiving, PATIENCE)
        async with _receiving(hub, probe, "a"):
            assert (await hub.storage.presence.status([log_of("a")]))[log_of("a")].head == 0


async def test_probes_are_no_gateways_of_anybody_and_those_of_dead_pods_are_removed(database_url: str) -> None:
    async with _pod(database_url, "a") as (hub, probe), _receiving(hub, probe, "a"):
        await hub.register_gateway("gateway")
        await hub.register_gateway(log_of("dead"))
        left = LeftProbes(hub)
        await count_gateways(hub, "a", left)
        assert metrics.registry.get_sample_value("gatecast_gateways", {"why": "offline"}) == 1
        assert metrics.registry.get_sample_value("gatecast_gateways", {"why": "current"}) is None
        assert log_of("dead") in (await hub.storage.log.changed_since(0)).heads
        await count_gateways(hub, "a", left)
        assert set((await hub.storage.log.changed_since(0)).heads) == {"gateway", log_of("a")}


async def test_a_probe_that_ends_takes_its_gateway_away(database_url: str) -> None:
    async with _pod(database_url, "a") as (hub, probe):
        running = asyncio.create_task(probe.run())

        async def registered() -> bool:
            return bool((await hub.storage.log.changed_since(0)).heads)

        await eventually(registered)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert (await hub.storage.log.changed_since(0)).heads == {}


def test_whatever_a_pod_is_called_its_log_has_a_name_that_may_be_stored() -> None:
    assert is_probe(log_of("x" * 255))
    assert len(log_of("x" * 255)) < 255
    assert log_of("a") != log_of("b")
    assert describe_probe(None) == "off"
