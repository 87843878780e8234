"""`gatecast bench latency`: from a commit in one hub to a subscriber in another one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from gatecast.cli.bench.report import LatencyFigures, percentile, report_latency
from gatecast.cli.bench.target import DatabaseFlag, QuickFlag, Target, open_target, sample_event
from gatecast.cli.output import JsonFlag
from gatecast.hub import EventHub, HubSubscription
from gatecast.settings import Settings

#: Events per second, at irregular intervals so that they do not fall into step with the polls.
_RATE = 100

#: What is still missing after this time will not come; in seconds.
_LONGEST_WAIT = 15.0


@dataclass(frozen=True, slots=True)
class Sample:
    """When one event was published, committed and received, in seconds of one clock."""

    called: float
    committed: float
    received: float


def latency(*, database: DatabaseFlag = None, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure how long an event takes from its commit to a subscriber in another hub on the same database.

    Measures once with wake-ups, and once with polling alone at the default interval.
    """
    name, figures = asyncio.run(_measure_database(database, events=60 if quick else 500))
    report_latency(name, figures, as_json=as_json)


async def _measure_database(url: str | None, *, events: int) -> tuple[str, list[LatencyFigures]]:
    async with open_target(url) as target:
        with_wakeups = await _measure(target, events, notifications=True)
        polling = await _measure(target, events, notifications=False)
    first = _median_of_whole(with_wakeups)
    return target.backend, [_figures("wake-ups", with_wakeups, first), _figures("polling", polling, first)]


async def _measure(target: Target, events: int, *, notifications: bool) -> list[Sample]:
    """Both hubs share this process and its clock; they share nothing else but the database."""
    async with (
        target.gateways(1) as [gateway_id],
        EventHub.open(target.url, settings=Settings(notifications=notifications)) as here,
        EventHub.open(target.url, settings=Settings(notifications=notifications)) as there,
    ):
        return await samples(here, there, gateway_id, events)


async def samples(here: EventHub, there: EventHub, gateway_id: str, events: int) -> list[Sample]:
    """The times of so many events that are published in one hub and received in another."""
    async with (
        there.subscribe(gateway_id) as subscription,
        asyncio.timeout(_LONGEST_WAIT + 2 * events / _RATE),
        asyncio.TaskGroup() as both,
    ):
        receiving = both.create_task(_receive(subscription, events))
        published = await _publish(here, gateway_id, events)
    received = receiving.result()
    return [Sample(*published[offset], received[offset]) for offset in published]


async def _publish(hub: EventHub, gateway_id: str, events: int) -> Mapping[int, tuple[float, float]]:
    """When each offset was asked for and when it was committed."""
    pause = random.Random().expovariate  # noqa: S311 - spreads load
    times: dict[int, tuple[float, float]] = {}
    for _ in range(events):
        await asyncio.sleep(min(pause(_RATE), 5 / _RATE))
        called = perf_counter()
        position = await hub.publish(sample_event(gateway_id))
        times[position.offset] = called, perf_counter()
    return times


async def _receive(subscription: HubSubscription, events: int) -> Mapping[int, float]:
    """When each offset arrived."""
    times: dict[int, float] = {}
    async for event in subscription:
        times[event.offset] = perf_counter()
        subscription.acknowledge(event)
        if len(times) == events:
            break
    return times


def _median_of_whole(samples: list[Sample]) -> float:
    return percentile(sorted(each.received - each.called for each in samples), 0.5)


def _figures(mode: str, samples: list[Sample], first: float) -> LatencyFigures:
    waits = sorted(each.received - each.committed for each in samples)
    return LatencyFigures(
        mode=mode,
        events=len(samples),
        p50_ms=percentile(waits, 0.5) * 1_000,
        p95_ms=percentile(waits, 0.95) * 1_000,
        p99_ms=percentile(waits, 0.99) * 1_000,
        whole_p50_ms=_median_of_whole(samples) * 1_000,
        ratio=_median_of_whole(samples) / first,
    )
