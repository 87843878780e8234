"""`gatecast bench connect`: what it costs a pod and its database that thousands of gateways come at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from statistics import median
from time import perf_counter

from gatecast.cli.bench.deliver import bare_server
from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.plain_gateways import PlainGateways
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag

#: A pod has forgotten connections that have ended by then, in seconds.
_LEFT_AFTER = 1.0

_SERVER_PROCESSES = "SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL"


def connect(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure gateways that come at once, as after the death of a pod, over plain sockets. Needs Linux.

    A connection counts once its first frame has come: authenticated, recorded, and placed in its log. The yardstick is
    a bare server that shakes hands, and does nothing else.
    """
    report("connect", asyncio.run(_measure(30 if quick else 200, 2 if quick else 5)), as_json=as_json)


async def _measure(gateways: int, rounds: int) -> list[Figure]:
    async with measured_pod(gateways) as pod, bare_server() as (bare, address, _):
        results, shaking_hands = [], []
        # One more, which warms up: the pod makes its connections to the database.
        for _ in range(rounds + 1):
            results.append(await _round(pod))
            shaking_hands.append(await _shake_hands(bare, address, gateways))
    of_pod, of_database, rates = zip(*results[1:], strict=True)
    yardstick = median(shaking_hands[1:])
    return [
        Figure(what="processor time of the pod per connect", unit="µs", rounds=of_pod, aim=500, yardstick=yardstick),
        Figure(what="processor time of PostgreSQL per connect", unit="µs", rounds=of_database, aim=150),
        Figure(what="connects", unit="/s", rounds=rates, aim=500, more_is_better=True),
    ]


async def _round(pod: MeasuredPod) -> tuple[float, float, float]:
    """What a connect costs the pod, and its database, in microseconds; and how many there are in a second."""
    coming = PlainGateways(pod.process.gateway_host)
    before, before_there = processor_seconds(pod.process.pid), await _spent_by_database(pod)
    begun = perf_counter()
    try:
        await coming.connect([token for _, token in pod.gateways])
        took = perf_counter() - begun
        spent = processor_seconds(pod.process.pid) - before
        spent_there = await _spent_by_database(pod) - before_there
    finally:
        coming.drop()
    await asyncio.sleep(_LEFT_AFTER)
    count = len(pod.gateways)
    return spent / count * 1e6, spent_there / count * 1e6, count / took


async def _shake_hands(pid: int, address: str, count: int) -> float:
    """What it costs the bare server, in microseconds."""
    coming = PlainGateways(address)
    before = processor_seconds(pid)
    try:
        await coming.connect([""] * count)
        return (processor_seconds(pid) - before) / count * 1e6
    finally:
        coming.drop()


async def _spent_by_database(pod: MeasuredPod) -> float:
    """Processor seconds of the server's processes so far."""
    seconds = 0.0
    for row in await pod.target.storage.database.fetch(_SERVER_PROCESSES):
        with suppress(FileNotFoundError, ProcessLookupError):
            seconds += processor_seconds(row["pid"])
    return seconds
