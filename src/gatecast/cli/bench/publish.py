"""`gatecast bench publish`: the hub against the baseline and against single statements."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

from gatecast.cli.bench.baseline import Baseline
from gatecast.cli.bench.report import PublishFigures, percentile, report_publish
from gatecast.cli.bench.target import DatabaseFlag, QuickFlag, Target, open_target, sample_event
from gatecast.cli.output import JsonFlag
from gatecast.events import Event

#: Publishes one event and returns after its commit.
Publish: TypeAlias = Callable[[Event], Awaitable[object]]

#: What the others are compared with.
USUAL = "usual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure."""

    #: How long each figure is measured, in seconds; a fifth of it comes before, to warm up.
    seconds: float
    #: How many gateways "many" are.
    gateways: int
    #: How many callers publish at the same time.
    publishers: Sequence[int] = (1, 8, 32)


FULL = Plan(seconds=2.0, gateways=1_000)
QUICK = Plan(seconds=0.1, gateways=100)


def publish(*, database: DatabaseFlag = None, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure publishing: the hub, single statements, and a baseline of five round trips, in the same run.

    Each caller publishes one event and waits for its commit before the next. Takes less than a minute.
    """
    name, figures = asyncio.run(_measure_database(database, QUICK if quick else FULL))
    report_publish(name, figures, as_json=as_json)


async def _measure_database(url: str | None, plan: Plan) -> tuple[str, list[PublishFigures]]:
    async with open_target(url) as target, target.gateways(plan.gateways) as gateways, _designs(target) as designs:
        figures = [
            each
            for chosen in (gateways, gateways[:1])
            for publishers in plan.publishers
            for each in await _compare(designs, chosen, publishers=publishers, seconds=plan.seconds)
        ]
    return target.backend, figures


@asynccontextmanager
async def _designs(target: Target) -> AsyncIterator[Mapping[str, Publish]]:
    async def publish_single(event: Event) -> object:
        return await target.storage.log.publish([[event]])

    async with Baseline.open(target.storage.database) as usual:
        yield {USUAL: usual.publish, "single": publish_single, "hub": target.hub.publish}


async def _compare(
    designs: Mapping[str, Publish], gateways: Sequence[str], *, publishers: int, seconds: float
) -> list[PublishFigures]:
    """Every design under the same load, one after the other."""
    rates: dict[str, float] = {}
    figures = []
    for design, publish_one in designs.items():
        await _load(publish_one, gateways, publishers=publishers, seconds=seconds / 5)
        begun = perf_counter()
        latencies = sorted(await _load(publish_one, gateways, publishers=publishers, seconds=seconds))
        rates[design] = len(latencies) / (perf_counter() - begun)
        figures.append(
            PublishFigures(
                design=design,
                gateways=len(gateways),
                publishers=publishers,
                events_per_second=rates[design],
                p50_ms=percentile(latencies, 0.5) * 1_000,
                p99_ms=percentile(latencies, 0.99) * 1_000,
                ratio=rates[design] / rates[USUAL],
            )
        )
    return figures


async def _load(publish_one: Publish, gateways: Sequence[str], *, publishers: int, seconds: float) -> list[float]:
    """How long each publish took, in seconds."""
    until = perf_counter() + seconds
    async with asyncio.TaskGroup() as callers:
        tasks = [callers.create_task(_publish_until(until, publish_one, gateways)) for _ in range(publishers)]
    return [latency for task in tasks for latency in task.result()]


async def _publish_until(until: float, publish_one: Publish, gateways: Sequence[str]) -> list[float]:
    choose = random.Random().choice  # noqa: S311 - spreads load
    latencies: list[float] = []
    while not latencies or perf_counter() < until:
        event = sample_event(choose(gateways))
        begun = perf_counter()
        await publish_one(event)
        latencies.append(perf_counter() - begun)
    return latencies
