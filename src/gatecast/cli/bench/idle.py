"""`gatecast bench idle`: what gateways cost to which nothing happens."""

from __future__ import annotations

import asyncio
from time import perf_counter

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.plain_gateways import PlainGateways
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag

#: What a gateway might still do after it has connected is over by then; in seconds.
_CALM_AFTER = 2.0

_COMMITS = "SELECT xact_commit AS commits FROM pg_stat_database WHERE datname = current_database()"


def idle(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure a pod whose gateways are connected, and to which nothing is published. Needs Linux.

    The yardstick is the same pod before the first gateway connects: what is asked of the database must not grow.
    """
    report("idle", asyncio.run(_measure(30 if quick else 500, 2 if quick else 5)), as_json=as_json)


async def _measure(gateways: int, rounds: int) -> list[Figure]:
    async with measured_pod(gateways) as pod:
        before = [await _round(pod) for _ in range(rounds)]
        taking = PlainGateways(pod.process.gateway_host)
        try:
            await taking.connect([token for _, token in pod.gateways])
            await asyncio.sleep(_CALM_AFTER)
            after = [await _round(pod) for _ in range(rounds)]
        finally:
            taking.drop()
    alone = sorted(commits for _, commits in before)[rounds // 2]
    return [
        Figure(what=f"processor time, {gateways:,} gateways", unit="ms/s", rounds=[spent for spent, _ in after]),
        Figure(
            what=f"transactions, {gateways:,} gateways",
            unit="/s",
            rounds=[commits for _, commits in after],
            aim=max(2 * alone, 10.0),
            yardstick=alone,
        ),
    ]


async def _round(pod: MeasuredPod) -> tuple[float, float]:
    """Milliseconds of the processor, and transactions of the whole database, in a second."""
    spent, begun = processor_seconds(pod.process.pid), perf_counter()
    [row] = await pod.target.storage.database.fetch(_COMMITS)
    await asyncio.sleep(2.0)
    took = perf_counter() - begun
    [now] = await pod.target.storage.database.fetch(_COMMITS)
    return (processor_seconds(pod.process.pid) - spent) / took * 1e3, (now["commits"] - row["commits"]) / took
