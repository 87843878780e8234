"""`gatecast bench publish`: the hub against the baseline and against single statements."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeAlias

from gatecast.cli.bench.baseline import Baseline
from gatecast.cli.bench.pgbench import Pgbench, Round
from gatecast.cli.bench.report import PublishFigures, percentile, report_publish
from gatecast.cli.bench.target import DatabaseFlag, QuickFlag, Target, open_target, sample_event
from gatecast.cli.output import JsonFlag
from gatecast.events import Event
from gatecast.storage.database_url import Backend
from gatecast.storage.postgres.storage import PostgresStorage

#: Publishes one event and returns after its commit.
Publish: TypeAlias = Callable[[Event], Awaitable[object]]

#: Lets this many callers publish to these gateways for this many seconds.
Load: TypeAlias = Callable[[Sequence[str], int, float], Awaitable[Round]]

#: What the others are compared with.
USUAL = "usual"

#: The single statement as the hub sends it, which wakes every pod at its commit; measured for one caller.
WAKING = "waking"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure."""

    #: How long one round takes, in seconds.
    seconds: float
    #: How many rounds of each design, in turn; one more comes before, to warm up.
    rounds: int
    #: How many gateways "many" are.
    gateways: int
    #: How many callers publish at the same time.
    publishers: Sequence[int] = (1, 8, 32, 64)


FULL = Plan(seconds=0.3, rounds=3, gateways=1_000)
QUICK = Plan(seconds=0.05, rounds=1, gateways=100)


def publish(*, database: DatabaseFlag = None, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure publishing: the hub, single statements, a baseline of five round trips, and pgbench, in turn.

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
            for each in await _compare(designs, chosen, publishers, plan)
        ]
    return target.backend, figures


@asynccontextmanager
async def _designs(target: Target) -> AsyncIterator[Mapping[str, Load]]:
    async def publish_single(event: Event) -> object:
        return await target.storage.log.publish([[event]])

    async with Baseline.open(target.storage.database) as usual, AsyncExitStack() as stack:
        designs: dict[str, Publish] = {USUAL: usual.publish, "single": publish_single, "hub": target.hub.publish}
        loads: dict[str, Load] = {name: calling(publish_one) for name, publish_one in designs.items()}
        if target.backend is Backend.POSTGRESQL:
            waking = await stack.enter_async_context(PostgresStorage.open(target.url, pool_size=1))

            async def publish_waking(event: Event) -> object:
                return await waking.log.publish([[event]])

            loads[WAKING] = calling(publish_waking)
        if target.backend is Backend.POSTGRESQL and (pgbench := Pgbench.found(target.url)) is not None:
            loads["pgbench"] = (await stack.enter_async_context(pgbench)).load
        yield loads


async def _compare(
    designs: Mapping[str, Load], gateways: Sequence[str], publishers: int, plan: Plan
) -> list[PublishFigures]:
    """Every design under the same load, in turn, so that whatever else the machine does disturbs all of them."""
    designs = {name: load for name, load in designs.items() if name != WAKING or publishers == 1}
    rates: dict[str, list[float]] = {name: [] for name in designs}
    latencies: dict[str, list[float]] = {name: [] for name in designs}
    for number in range(plan.rounds + 1):
        for name, load in designs.items():
            found = await load(gateways, publishers, plan.seconds)
            if number:
                rates[name].append(len(found.latencies) / found.seconds)
                latencies[name] += found.latencies
    usual = median(rates[USUAL])
    return [
        PublishFigures(
            design=name,
            gateways=len(gateways),
            publishers=publishers,
            events_per_second=median(rates[name]),
            p50_ms=percentile(sorted(latencies[name]), 0.5) * 1_000,
            p99_ms=percentile(sorted(latencies[name]), 0.99) * 1_000,
            ratio=median(rates[name]) / usual,
            spread=(max(rates[name]) - min(rates[name])) / median(rates[name]),
        )
        for name in designs
    ]


def calling(publish_one: Publish) -> Load:
    """Callers in this process that each publish one event after the other."""

    async def load(gateways: Sequence[str], publishers: int, seconds: float) -> Round:
        begun = perf_counter()
        until = begun + seconds
        async with asyncio.TaskGroup() as callers:
            tasks = [callers.create_task(_publish_until(until, publish_one, gateways)) for _ in range(publishers)]
        return Round([latency for task in tasks for latency in task.result()], perf_counter() - begun)

    return load


async def _publish_until(until: float, publish_one: Publish, gateways: Sequence[str]) -> list[float]:
    choose = random.Random().choice  # noqa: S311 - spreads load
    latencies: list[float] = []
    while not latencies or perf_counter() < until:
        event = sample_event(choose(gateways))
        begun = perf_counter()
        await publish_one(event)
        latencies.append(perf_counter() - begun)
    return latencies
