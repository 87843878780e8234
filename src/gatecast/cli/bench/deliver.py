"""`gatecast bench deliver`: what an event costs a pod on its way to a gateway, and how many it delivers."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median
from time import perf_counter

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.plain_gateways import PlainGateways
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag
from gatecast.events import Action, Event

#: So many events wait for each gateway where several do.
_SEVERAL = 20

#: Positions are stored within this time after the last Pong; in seconds.
_SETTLED_AFTER = 0.6

#: How long it is looked at what the pod uses without any event; in seconds.
_IDLE = 1.0

#: Gateways in one publish.
_AT_ONCE = 100


def deliver(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure delivery over plain sockets: Ping, Pong and the stored position of every event included. Needs Linux.

    The yardstick is a bare server that sends as many frames of that size, and does nothing else.
    """
    report("deliver", asyncio.run(_measure(30 if quick else 500, 2 if quick else 5)), as_json=as_json)


async def _measure(gateways: int, rounds: int) -> list[Figure]:
    async with measured_pod(gateways) as pod, bare_server() as (echo, address, order):
        taking, echoing = PlainGateways(pod.process.gateway_host), PlainGateways(address)
        try:
            await taking.connect([token for _, token in pod.gateways])
            await echoing.connect([""] * gateways)
            figures: list[Figure] = []
            for each in (1, _SEVERAL):
                figures += await _compare(pod, taking, echo, echoing, order, each=each, rounds=rounds)
        finally:
            taking.drop()
            echoing.drop()
    return figures


async def _compare(
    pod: MeasuredPod,
    taking: PlainGateways,
    echo: int,
    echoing: PlainGateways,
    order: Callable[[int], None],
    *,
    each: int,
    rounds: int,
) -> list[Figure]:
    """Both in turn, so that whatever else the machine does disturbs both."""
    events = each * len(pod.gateways)

    async def ask_echo() -> None:
        order(each)

    idle = await _spent_idle(pod.process.pid)
    costs, rates, bare = [], [], []
    for _ in range(rounds):
        seconds, took = await _round(pod.process.pid, taking, events, lambda: _publish(pod, each))
        costs.append(max(0.0, seconds - idle * (took + _SETTLED_AFTER)) / events * 1e6)
        rates.append(events / took)
        bare.append((await _round(echo, echoing, events, ask_echo))[0] / events * 1e6)
    name = "one event at a time" if each == 1 else f"{each} events waiting for each"
    aims = (25.0, 30_000.0) if each == 1 else (8.0, 80_000.0)
    return [
        Figure(what=f"processor time, {name}", unit="µs", rounds=costs, aim=aims[0], yardstick=median(bare)),
        Figure(what=f"rate, {name}", unit="events/s", rounds=rates, aim=aims[1], more_is_better=True),
    ]


async def _round(
    pid: int, gateways: PlainGateways, events: int, begin: Callable[[], Awaitable[None]]
) -> tuple[float, float]:
    """Processor seconds of the process, and seconds until the last frame came."""
    wanted = gateways.texts + events
    before, begun = processor_seconds(pid), perf_counter()
    await begin()
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


async def _publish(pod: MeasuredPod, each: int) -> None:
    """From another process, so that publishing costs the pod nothing."""
    data = {"filling": "x" * 800}
    for start in range(0, len(pod.gateways), _AT_ONCE):
        await pod.target.hub.publish(
            [
                Event(
                    gateway_id=gateway_id,
                    type="api.updated",
                    action=Action.UPDATE,
                    entity_type="Api",
                    entity_id="api-1",
                    data=data,
                )
                for gateway_id, _ in pod.gateways[start : start + _AT_ONCE]
                for _ in range(each)
            ]
        )


@asynccontextmanager
async def bare_server() -> AsyncIterator[tuple[int, str, Callable[[int], None]]]:
    """Its process id, its address, and what makes it send so many events to everybody."""
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
