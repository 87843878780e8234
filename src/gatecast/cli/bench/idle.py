"""`gatecast bench idle`: what gateways cost to which nothing happens."""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.plain_gateways import PlainGateways
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag

#: What a gateway might still do after it has connected is over by then; in seconds.
_CALM_AFTER = 2.0

_WORK = """
SELECT xact_commit AS commits, tup_returned + tup_fetched AS rows
FROM pg_stat_database WHERE datname = current_database()
"""

#: Reading fewer rows per second than this counts as idle: catalogs are read as well.
_FEW_ROWS = 5_000.0

#: Gateways that are registered and never connect: whatever is asked of the database must not grow with them.
_REGISTERED = 10_000


def idle(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure a pod whose gateways are connected, among 10,000 that are not, and nothing is published. Needs Linux.

    The yardstick is the same pod before the first gateway connects: what is asked of the database must not grow.
    """
    plan = (30, 100, 2) if quick else (500, _REGISTERED, 5)
    report("idle", asyncio.run(_measure(*plan)), as_json=as_json)


async def _measure(gateways: int, registered: int, rounds: int) -> list[Figure]:
    async with measured_pod(gateways) as pod:
        before = [await _round(pod) for _ in range(rounds)]
        taking = PlainGateways(pod.process.gateway_host)
        try:
            await taking.connect([token for _, token in pod.gateways])
            async with pod.target.gateways(registered):
                await asyncio.sleep(_CALM_AFTER)
                after = [await _round(pod) for _ in range(rounds)]
        finally:
            taking.drop()
    commits, rows = (median(each) for each in list(zip(*before, strict=True))[1:])
    spent, commits_then, rows_then = zip(*after, strict=True)
    many = f"{gateways:,} of {gateways + registered:,} gateways connected"
    return [
        Figure(what=f"processor time, {many}", unit="ms/s", rounds=spent),
        Figure(
            what=f"transactions, {many}", unit="/s", rounds=commits_then, aim=max(2 * commits, 10.0), yardstick=commits
        ),
        Figure(what=f"rows read, {many}", unit="/s", rounds=rows_then, aim=max(2 * rows, _FEW_ROWS), yardstick=rows),
    ]


async def _round(pod: MeasuredPod) -> tuple[float, float, float]:
    """Milliseconds of the processor, transactions of the whole database, and rows that they read, in a second."""
    spent, begun = processor_seconds(pod.process.pid), perf_counter()
    [then] = await pod.target.storage.database.fetch(_WORK)
    await asyncio.sleep(2.0)
    took = perf_counter() - begun
    [now] = await pod.target.storage.database.fetch(_WORK)
    commits, rows = ((now[name] - then[name]) / took for name in ("commits", "rows"))
    return (processor_seconds(pod.process.pid) - spent) / took * 1e3, commits, rows
