"""`gatecast bench transaction`: publishing in the caller's own transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any
from uuid import uuid4

import asyncpg

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.target import QuickFlag, Target, open_target, sample_event
from gatecast.cli.output import JsonFlag

_CREATE = "CREATE TABLE gatecast_bench_changes (id uuid PRIMARY KEY, version bigint NOT NULL)"
_DROP = "DROP TABLE gatecast_bench_changes"
_CHANGE = "INSERT INTO gatecast_bench_changes (id, version) VALUES ($1, 1)"


def transaction(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure what publishing adds to a transaction of your own that changes a row and commits.

    The yardstick of its time is the same transaction with a second row, which is one round trip more.
    """
    rounds, times = (2, 5) if quick else (9, 100)
    report("transaction", asyncio.run(_measure(rounds, times)), as_json=as_json)


async def _measure(rounds: int, times: int) -> list[Figure]:
    async with open_target(None) as target, target.gateways(1_000) as ids:
        connection = await asyncpg.connect(target.url)
        try:
            await connection.execute(_CREATE)
            return await _compare(target, connection, ids, rounds, times)
        finally:
            await connection.execute(_DROP)
            await connection.close()


async def _compare(
    target: Target, connection: asyncpg.Connection[Any], ids: Sequence[str], rounds: int, times: int
) -> list[Figure]:
    publishing, alone, twice, statements = [], [], [], []
    for number in range(rounds + 1):
        chosen = [ids[(number * times + each) % len(ids)] for each in range(times)]
        asked: list[object] = []
        with connection.query_logger(asked.append):
            took = await _round(target, connection, chosen, changes=1)
        bare: list[object] = []
        with connection.query_logger(bare.append):
            once = await _round(target, connection, [None] * times, changes=1)
        double = await _round(target, connection, [None] * times, changes=2)
        if number:
            # The first one warms up.
            statements.append((len(asked) - len(bare)) / times)
            publishing.append(took)
            alone.append(once)
            twice.append(double)
    more = sorted(second - first for first, second in zip(alone, twice, strict=True))[rounds // 2]
    return [
        Figure(what="round trips more", unit="", rounds=statements, aim=1, yardstick=1),
        Figure(
            what="time more",
            unit="µs",
            rounds=[each - first for each, first in zip(publishing, alone, strict=True)],
            yardstick=max(more, 1.0),
        ),
    ]


async def _round(
    target: Target, connection: asyncpg.Connection[Any], published: Sequence[str | None], *, changes: int
) -> float:
    """Microseconds of one transaction."""
    begun = perf_counter()
    for gateway_id in published:
        async with connection.transaction():
            for _ in range(changes):
                await connection.execute(_CHANGE, uuid4())
            if gateway_id is not None:
                await target.hub.publish(sample_event(gateway_id), transaction=connection)
    return (perf_counter() - begun) / len(published) * 1e6
