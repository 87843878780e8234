"""`gatecast bench fan-out`: one event for every gateway of a large organization, in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import median
from time import perf_counter

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.target import QuickFlag, Target, open_target, sample_event
from gatecast.cli.output import JsonFlag

#: Gateways in one statement of the yardstick.
_FEW = 100


def fan_out(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure publishing one event to 1,000 and to 10,000 gateways, all or none.

    The yardstick is the same in statements of 100 gateways each: for each gateway the one statement must cost no more.
    """
    sizes, rounds = ([100, 200], 2) if quick else ([1_000, 10_000], 5)
    report("fan-out", asyncio.run(_measure(sizes, rounds)), as_json=as_json)


async def _measure(sizes: Sequence[int], rounds: int) -> list[Figure]:
    async with open_target(None) as target, target.gateways(max(sizes)) as ids:
        return [await _compare(target, ids[:size], rounds) for size in sizes]


async def _compare(target: Target, ids: Sequence[str], rounds: int) -> Figure:
    at_once, in_parts = [], []
    # One more, which warms up.
    for _ in range(rounds + 1):
        at_once.append(await _publish(target, ids, len(ids)))
        in_parts.append(await _publish(target, ids, _FEW))
    yardstick = median(in_parts[1:])
    return Figure(
        what=f"time per gateway, {len(ids):,} in one statement",
        unit="µs",
        rounds=at_once[1:],
        aim=yardstick,
        yardstick=yardstick,
    )


async def _publish(target: Target, ids: Sequence[str], at_once: int) -> float:
    """Microseconds per gateway."""
    event = sample_event(ids[0])
    begun = perf_counter()
    for start in range(0, len(ids), at_once):
        await target.hub.publish([event.addressed_to(gateway_id) for gateway_id in ids[start : start + at_once]])
    return (perf_counter() - begun) / len(ids) * 1e6
