"""`gatecast bench idle`: what gateways cost to which nothing happens."""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter
from typing import Annotated

import typer

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.plain_gateways import PlainGateways
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.cli.bench", "idle.sql")

#: What a gateway might still do after it has connected is over by then; in seconds.
_CALM_AFTER = 2.0

_WORK = """
SELECT xact_commit AS commits, tup_returned + tup_fetched AS rows
FROM pg_stat_database WHERE datname = current_database()
"""

#: Reading fewer rows per second than this counts as idle: catalogs are read as well.
_FEW_ROWS = 5_000.0

GatewaysOption = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="Gateways that are registered and never connect.")
]
PodsOption = Annotated[int, typer.Option(min=1, max=10, help="Pods, among which the connected gateways are spread.")]


def idle(
    *, gateways: GatewaysOption = 10_000, pods: PodsOption = 1, quick: QuickFlag = False, as_json: JsonFlag = False
) -> None:
    """Measure pods whose gateways are connected, among many that are not, and nothing is published. Needs Linux.

    The yardstick is the same pods before the first gateway connects: what is asked of the database must not grow.
    """
    connected, rounds = (30, 2) if quick else (500, 5)
    registered = min(gateways, 100) if quick else gateways
    report("idle", asyncio.run(_measure(connected, registered, pods, rounds)), as_json=as_json)


async def _measure(gateways: int, registered: int, pods: int, rounds: int) -> list[Figure]:
    async with measured_pod(gateways, others=pods - 1) as pod:
        before = [await _round(pod) for _ in range(rounds)]
        running = [pod.process, *pod.others]
        parts = [PlainGateways(each.gateway_host) for each in running]
        try:
            for number, part in enumerate(parts):
                await part.connect([token for _, token in pod.gateways[number :: len(parts)]])
            await pod.target.storage.database.fetch(_QUERIES["register"], registered)
            # Statistics as they are on a database that has run for a while.
            await pod.target.storage.database.execute("ANALYZE")
            await asyncio.sleep(_CALM_AFTER)
            after = [await _round(pod) for _ in range(rounds)]
        finally:
            for part in parts:
                part.drop()
    commits, rows = (median(each) for each in list(zip(*before, strict=True))[1:])
    spent, commits_then, rows_then = zip(*after, strict=True)
    many = f"{gateways:,} of {gateways + registered:,} gateways connected" + (f", {pods} pods" if pods > 1 else "")
    return [
        Figure(what=f"processor time, {many}", unit="ms/s", rounds=spent),
        Figure(
            what=f"transactions, {many}", unit="/s", rounds=commits_then, aim=max(2 * commits, 10.0), yardstick=commits
        ),
        Figure(what=f"rows read, {many}", unit="/s", rounds=rows_then, aim=max(2 * rows, _FEW_ROWS), yardstick=rows),
    ]


async def _round(pod: MeasuredPod) -> tuple[float, float, float]:
    """Milliseconds of the processor, transactions of the whole database, and rows that they read, in a second."""
    spent, begun = _spent(pod), perf_counter()
    [then] = await pod.target.storage.database.fetch(_WORK)
    await asyncio.sleep(2.0)
    took = perf_counter() - begun
    [now] = await pod.target.storage.database.fetch(_WORK)
    commits, rows = ((now[name] - then[name]) / took for name in ("commits", "rows"))
    return (_spent(pod) - spent) / took * 1e3, commits, rows


def _spent(pod: MeasuredPod) -> float:
    """Processor seconds of all pods so far."""
    return sum(processor_seconds(each.pid) for each in (pod.process, *pod.others))
