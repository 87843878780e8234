"""`gatecast bench drain`: a gateway that was away comes back to a long backlog and takes it as fast as it gets it."""

from __future__ import annotations

import asyncio
from time import perf_counter

from gatecast.cli.bench.report import DrainFigures, report_drain
from gatecast.cli.bench.target import DatabaseFlag, QuickFlag, Target, open_target, sample_event
from gatecast.cli.output import JsonFlag
from gatecast.events import Position
from gatecast.hub import EventHub
from gatecast.settings import Settings
from gatecast.storage.contract import ReadRequest

#: As many events, and bytes, as delivery asks for at once.
_PAGE_EVENTS = 256
_PAGE_BYTES = 4 * 1024 * 1024

#: Events in one publish, while the backlog is made.
_GROUP = 500


def drain(*, database: DatabaseFlag = None, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure how fast a backlog of one gateway reaches a subscriber that acknowledges each event.

    For comparison, also measure how fast the same rows can be read from this database page by page.
    """
    name, figures = asyncio.run(_measure_database(database, events=1_000 if quick else 10_000))
    report_drain(name, figures, as_json=as_json)


async def _measure_database(url: str | None, *, events: int) -> tuple[str, list[DrainFigures]]:
    async with open_target(url) as target, target.gateways(1) as [gateway_id]:
        for first in range(0, events, _GROUP):
            await target.hub.publish([sample_event(gateway_id) for _ in range(min(_GROUP, events - first))])
        # Twice, so that neither is the first to touch the rows.
        for _ in range(2):
            reading = await _read_pages(target, gateway_id, events)
            delivering = await _deliver(target, gateway_id, events)
    return target.backend, [
        _figures("reading", events, reading, reading),
        _figures("delivery", events, delivering, reading),
    ]


async def _read_pages(target: Target, gateway_id: str, events: int) -> float:
    """Seconds that reading every page takes."""
    began_at, after = perf_counter(), 0
    while after < events:
        request = ReadRequest(gateway_id=gateway_id, after=after, max_events=_PAGE_EVENTS, max_bytes=_PAGE_BYTES)
        [page] = await target.storage.log.read([request])
        assert page is not None  # noqa: S101 - it was registered above
        after = page.events[-1].offset
    return perf_counter() - began_at


async def _deliver(target: Target, gateway_id: str, events: int) -> float:
    """Seconds from the subscription to the last event, each acknowledged, in a hub that knows nothing of them yet."""
    beginning = (await target.storage.log.changed_since(0)).epoch
    async with EventHub.open(target.url, settings=Settings()) as hub:
        began_at = perf_counter()
        async with hub.subscribe(gateway_id, after=Position(beginning, 0)) as subscription:
            async for event in subscription:
                subscription.acknowledge(event)
                if event.offset == events:
                    break
        return perf_counter() - began_at


def _figures(mode: str, events: int, seconds: float, reading: float) -> DrainFigures:
    return DrainFigures(mode=mode, events=events, events_per_second=events / seconds, ratio=reading / seconds)
