"""`gatecast bench retention`: publishing while old events are removed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import Annotated

import typer

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.publish import calling
from gatecast.cli.bench.report import percentile
from gatecast.cli.bench.target import QuickFlag, Target, open_target
from gatecast.cli.output import JsonFlag
from gatecast.delivery.retention import CHUNK_PAUSE
from gatecast.storage.contract import TrimPass, TrimPolicy
from gatecast.storage.queries import Queries

_CALLERS = 8

#: What was filled in is older than this, and what is published is not.
_AGE = timedelta(days=10)

#: Events are removed from logs of other gateways only.
_OTHERS = TrimPolicy(keep_confirmed=_AGE, keep_at_most=_AGE, max_events=2**60)

#: They are also removed from the logs that are published to, because these are at their cap.
_ALL = TrimPolicy(keep_confirmed=_AGE, keep_at_most=_AGE, max_events=5)

#: How long a publish may take at most while rows are removed, against the time before.
_AIM = 3.0

#: What is not removed by then stays; in seconds for each 100,000 events.
_LONGEST = 10.0

#: Logs of other gateways that are cleaned.
_OLD_LOGS = 100

#: Of so many logs one statement makes the events: more would take longer than a statement may.
_FILLED_TOGETHER = 5

_QUERIES = Queries("gatecast.cli.bench", "retention.sql")


RowsOption = Annotated[int, typer.Option(min=1_000, max=20_000_000, help="Events of other gateways that are removed.")]


def retention(*, rows: RowsOption = 100_000, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure how long a publish takes while retention removes many events of other gateways.

    While the second half is removed, the logs that are published to are at their cap, so that these are trimmed as
    well. The yardstick is the same load before anything is removed. Ends after 10 seconds for each 100,000 events,
    whatever is left by then.
    """
    gateways, events, seconds = (20, 100, 0.2) if quick else (_OLD_LOGS, rows // _OLD_LOGS // 2, 2.0)
    report("retention", asyncio.run(_measure(gateways, events, seconds)), as_json=as_json)


async def _measure(gateways: int, events: int, seconds: float) -> list[Figure]:
    """Half of the events are removed in each of two cases."""
    async with open_target(None) as target, target.gateways(2 * gateways) as ids:
        old, present = ids[:gateways], ids[gateways:]
        load = partial(calling(target.hub.publish), present, _CALLERS)
        usual = _p99((await load(seconds)).latencies)
        longest = _LONGEST * max(1.0, gateways * events / 100_000)
        figures = []
        for what, policy in (("p99 of a publish meanwhile", _OTHERS), ("the same, into logs at their cap", _ALL)):
            await _fill(target, old, events)
            removing = asyncio.create_task(_remove(target, policy, longest))
            during: list[float] = []
            while not removing.done():
                during += (await load(seconds / 4)).latencies
            removed, took = await removing
            figures += [
                Figure(what=what, unit="ms", rounds=[_p99(during)], aim=_AIM * usual, yardstick=usual),
                Figure(what="events removed", unit="/s", rounds=[removed / took], more_is_better=True),
            ]
    return figures


async def _fill(target: Target, old: Sequence[str], events: int) -> None:
    for first in range(0, len(old), _FILLED_TOGETHER):
        await target.storage.database.fetch(_QUERIES["fill"], old[first : first + _FILLED_TOGETHER], events)


def _p99(latencies: Sequence[float]) -> float:
    return percentile(sorted(latencies), 0.99) * 1e3


async def _remove(target: Target, policy: TrimPolicy, longest: float) -> tuple[int, float]:
    """How many events were removed, in one pass as a pod does it, and in how many seconds."""
    begun, removed, trim_pass = perf_counter(), 0, TrimPass()
    while not trim_pass.is_done and perf_counter() < begun + longest:
        removed += await target.storage.log.trim(policy, trim_pass)
        await asyncio.sleep(CHUNK_PAUSE)
    return removed, perf_counter() - begun
