"""`gatecast bench deliver`: what an event costs a pod on its way to a gateway, and how many it delivers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.plain_gateways import PlainGateways
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag
from gatecast.client import ClientOptions
from gatecast.events import Action, Event

#: What `GatewayClient` asks for.
_BATCH_BYTES = ClientOptions().max_batch_bytes

#: Events in one publish while a backlog is made.
_BACKLOG_GROUP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What gateways are sent, and what that should take."""

    name: str
    #: Events that wait for each gateway.
    each: int
    #: As in `PlainGateways`.
    batch_bytes: int | None
    #: Processor time for an event, in microseconds, and events per second.
    cost_aim: float | None = None
    rate_aim: float | None = None


_LOADS = (
    _Load(name="one event at a time", each=1, batch_bytes=None, cost_aim=25.0, rate_aim=30_000.0),
    _Load(name="20 events waiting for each", each=20, batch_bytes=None, cost_aim=8.0, rate_aim=80_000.0),
    _Load(name="20 for each gatecast.v2 client", each=20, batch_bytes=0),
    _Load(
        name="20 for each gatecast.v2 client, in batches",
        each=20,
        batch_bytes=_BATCH_BYTES,
        cost_aim=6.0,
        rate_aim=80_000.0,
    ),
)

#: Positions are stored within this time after the last Pong; in seconds.
_SETTLED_AFTER = 0.6

#: How long it is looked at what the pod uses without any event; in seconds.
_IDLE = 1.0

#: So many gateways get events where one goes to each, and where several wait: a pod that stands still for longer
#: than publishing to those takes is taken for dead.
_MANY = 500
_WAITING = 250

#: Gateways in one publish.
_AT_ONCE = 100


def deliver(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure delivery over plain sockets: the answers and the stored position of every event included. Needs Linux.

    Where several events wait, they are published while the pod stands still, and its rate is counted from its release.

    The yardstick is a bare server that sends as many frames of that size, and does nothing else.
    """
    figures = asyncio.run(_measure(30, 1_000, 2) if quick else _measure(500, 10_000, 5))
    report("deliver", figures, as_json=as_json)


async def _measure(gateways: int, backlog: int, rounds: int) -> list[Figure]:
    figures: list[Figure] = []
    async with measured_pod(gateways) as pod, bare_server() as (echo, address, order):
        echoing = PlainGateways(address)
        try:
            await echoing.connect([""] * gateways)
            for load in _LOADS:
                figures += await _compare(pod, echo, echoing, order, load=load, rounds=rounds)
        finally:
            echoing.drop()
        return figures + await _drain(pod, backlog, min(rounds, 3))


async def _compare(
    pod: MeasuredPod,
    echo: int,
    echoing: PlainGateways,
    order: Callable[[int], None],
    *,
    load: _Load,
    rounds: int,
) -> list[Figure]:
    """Both in turn, so that whatever else the machine does disturbs both."""
    gateways = [gateway_id for gateway_id, _ in pod.gateways][: _MANY if load.each == 1 else _WAITING]
    events, echoed = load.each * len(gateways), load.each * len(pod.gateways)

    async def publish() -> float:
        return await (_publish(pod, gateways, 1) if load.each == 1 else _release(pod, gateways, load.each))

    async def ask_echo() -> float:
        order(load.each)
        return perf_counter()

    taking = PlainGateways(pod.process.gateway_host, batch_bytes=load.batch_bytes)
    costs, rates, bare = [], [], []
    try:
        await taking.connect([token for _, token in pod.gateways])
        idle = await _spent_idle(pod.process.pid)
        for _ in range(rounds):
            seconds, took = await _round(pod.process.pid, taking, events, publish)
            costs.append(max(0.0, seconds - idle * (took + _SETTLED_AFTER)) / events * 1e6)
            rates.append(events / took)
            bare.append((await _round(echo, echoing, echoed, ask_echo))[0] / echoed * 1e6)
    finally:
        taking.drop()
    return [
        Figure(what=f"processor time, {load.name}", unit="µs", rounds=costs, aim=load.cost_aim, yardstick=median(bare)),
        Figure(what=f"rate, {load.name}", unit="events/s", rounds=rates, aim=load.rate_aim, more_is_better=True),
    ]


async def _drain(pod: MeasuredPod, events: int, rounds: int) -> list[Figure]:
    """How fast one gateway takes a backlog, with one event in each frame and in batches; both in turn."""
    rates: dict[int, list[float]] = {0: [], _BATCH_BYTES: []}
    gateway_id, token = pod.gateways[0]
    for _ in range(rounds):
        for batch_bytes, found in rates.items():
            for _ in range(0, events, _BACKLOG_GROUP):
                await pod.target.hub.publish([_event(gateway_id) for _ in range(_BACKLOG_GROUP)])
            returning = PlainGateways(pod.process.gateway_host, batch_bytes=batch_bytes)
            begun = perf_counter()
            try:
                await returning.connect([token])
                await returning.heard(1 + events)
                found.append(events / (perf_counter() - begun))
                await asyncio.sleep(_SETTLED_AFTER)
            finally:
                returning.drop()
    name = f"rate, {events:,} events waiting for one gatecast.v2 client"
    return [
        Figure(what=f"{name}", unit="events/s", rounds=rates[0], more_is_better=True),
        Figure(
            what=f"{name}, in batches",
            unit="events/s",
            rounds=rates[_BATCH_BYTES],
            aim=20_000.0,
            more_is_better=True,
            yardstick=median(rates[0]),
        ),
    ]


async def _round(
    pid: int, gateways: PlainGateways, events: int, begin: Callable[[], Awaitable[float]]
) -> tuple[float, float]:
    """Processor seconds of the process, and seconds from what `begin` says until the last frame came."""
    wanted, before = gateways.messages + events, processor_seconds(pid)
    begun = await begin()
    await gateways.heard(wanted)
    took = perf_counter() - begun
    await asyncio.sleep(_SETTLED_AFTER)
    return processor_seconds(pid) - before, took


async def _spent_idle(pid: int) -> float:
    """The share of a processor that it uses without any event."""
    await asyncio.sleep(_SETTLED_AFTER)
    before, begun = processor_seconds(pid), perf_counter()
    await asyncio.sleep(_IDLE)
    return (processor_seconds(pid) - before) / (perf_counter() - begun)


async def _publish(pod: MeasuredPod, gateways: Sequence[str], each: int) -> float:
    """The moment at which it began; from another process, so that publishing costs the pod nothing."""
    begun = perf_counter()
    for start in range(0, len(gateways), _AT_ONCE):
        at_once = gateways[start : start + _AT_ONCE]
        await pod.target.hub.publish([_event(gateway_id) for gateway_id in at_once for _ in range(each)])
    return begun


async def _release(pod: MeasuredPod, gateways: Sequence[str], each: int) -> float:
    """The moment at which the pod goes on, which stood still while events were published: all of them wait for it."""
    os.kill(pod.process.pid, signal.SIGSTOP)
    try:
        await _publish(pod, gateways, each)
    finally:
        os.kill(pod.process.pid, signal.SIGCONT)
    return perf_counter()


def _event(gateway_id: str) -> Event:
    return Event(
        gateway_id=gateway_id,
        type="api.updated",
        action=Action.UPDATE,
        entity_type="Api",
        entity_id="api-1",
        data={"filling": "x" * 800},
    )


@asynccontextmanager
async def bare_server() -> AsyncIterator[tuple[int, str, Callable[[int], None]]]:
    """Its process id, its address, and a function that makes it send a number of events to every connection."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gatecast.cli.bench.echo_server", stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None  # noqa: S101 - narrows the type
    assert process.stdout is not None  # noqa: S101 - as above
    try:
        address = (await process.stdout.readline()).decode().strip()
        orders = process.stdin
        yield process.pid, address, lambda events: orders.write(bytes((events,)))
    finally:
        process.kill()
        await process.wait()
