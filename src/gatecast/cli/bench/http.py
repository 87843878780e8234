"""`gatecast bench http`: publishing over HTTP, and what a request costs a pod."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.report import percentile
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag
from gatecast.testing.pods import RunningPod

#: How many callers there are at once; the figures without a number are for the middle one.
_FEW, _CALLERS, _MANY = 8, 32, 64

#: Pods in the last figure.
_PODS = 3

#: Events in one request to `/api/v1/events`.
_BATCH = 100

_EVENT = {
    "type": "api.updated",
    "action": "UPDATE",
    "entityType": "Api",
    "entityId": "api-1",
    "data": {"filling": "x" * 220},
}


def http(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure publishing over HTTP with 1 to 64 callers, each on a connection of its own, at 1 and 3 pods. Needs Linux.

    The yardstick is the health check of the same pod, which asks for nothing.
    """
    plan = (50, 2, 0.1) if quick else (1_000, 4, 1.0)
    report("http", asyncio.run(_measure(*plan)), as_json=as_json)


async def _measure(gateways: int, rounds: int, seconds: float) -> list[Figure]:
    async with measured_pod(gateways, others=_PODS - 1) as pod, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(_Caller(pod, pod.process)) for _ in range(_MANY)]
        pods = [pod.process, *pod.others]
        spread = [await stack.enter_async_context(_Caller(pod, pods[number % _PODS])) for number in range(_CALLERS)]
        scenarios = {
            "health": (callers[:_CALLERS], _health),
            **{f"publish {count}": (callers[:count], _publish) for count in (1, _FEW, _CALLERS, _MANY)},
            "batch": (callers[:_CALLERS], _publish_batch),
            "pods": (spread, _publish),
        }
        results: dict[str, list[Round]] = {name: [] for name in scenarios}
        for number in range(rounds + 1):
            for name, (calling, request) in scenarios.items():
                result = await _round(pod, calling, request, seconds)
                if number:
                    # The first one warms up.
                    results[name].append(result)
    return _figures(results)


def _figures(results: Mapping[str, Sequence[Round]]) -> list[Figure]:
    publish, batch = results[f"publish {_CALLERS}"], results["batch"]
    bare, alone = median(each.cost for each in results["health"]), median(each.rate for each in publish)
    return [
        Figure(
            what="processor time per request",
            unit="µs",
            rounds=[each.cost for each in publish],
            aim=300,
            yardstick=bare,
        ),
        *(_requests(f"requests, {count} callers", results[f"publish {count}"]) for count in (1, _FEW, _CALLERS, _MANY)),
        Figure(what="p99 of a request", unit="ms", rounds=[each.p99 for each in publish]),
        Figure(
            what=f"processor time per event, {_BATCH} in a request",
            unit="µs",
            rounds=[each.cost / _BATCH for each in batch],
        ),
        Figure(
            what=f"events, {_BATCH} in a request",
            unit="/s",
            rounds=[each.rate * _BATCH for each in batch],
            more_is_better=True,
        ),
        _requests(f"requests, {_CALLERS} callers at {_PODS} pods", results["pods"], yardstick=alone),
    ]


def _requests(what: str, rounds: Sequence[Round], *, yardstick: float | None = None) -> Figure:
    return Figure(what=what, unit="/s", rounds=[each.rate for each in rounds], more_is_better=True, yardstick=yardstick)


class Round(NamedTuple):
    """What one round of one scenario showed."""

    #: Processor time of the measured pod per request, in microseconds.
    cost: float
    #: Requests per second.
    rate: float
    #: The slowest of a hundred, in milliseconds.
    p99: float


class _Caller:
    """One connection that stays open, to one of the pods."""

    def __init__(self, pod: MeasuredPod, process: RunningPod) -> None:
        self.pod = pod
        self._host = urlsplit(process.api)

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host.hostname, self._host.port)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._writer.close()

    async def ask(self, request: bytes) -> None:
        """Send a request, and read its answer.

        Raises:
            ConnectionError: it is none of success.
        """
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 20"):
            raise ConnectionError(head.decode())
        _, _, rest = head.lower().partition(b"content-length: ")
        await self._reader.readexactly(int(rest.partition(b"\r\n")[0]))


def _request(pod: MeasuredPod, path: str, body: object) -> bytes:
    text = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: pod\r\nAuthorization: Bearer {pod.admin_token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    ).encode() + text


def _health(_pod: MeasuredPod) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: pod\r\n\r\n"


def _publish(pod: MeasuredPod) -> bytes:
    gateway_id, _ = random.choice(pod.gateways)  # noqa: S311 - spreads load
    return _request(pod, f"/api/v1/gateways/{gateway_id}/events", _EVENT)


def _publish_batch(pod: MeasuredPod) -> bytes:
    chosen = random.choices(pod.gateways, k=_BATCH)  # noqa: S311 - spreads load
    return _request(pod, "/api/v1/events", {"events": [_EVENT | {"gatewayId": each} for each, _ in chosen]})


async def _round(
    pod: MeasuredPod, callers: Sequence[_Caller], scenario: Callable[[MeasuredPod], bytes], seconds: float
) -> Round:
    latencies: list[float] = []
    until = perf_counter() + seconds

    async def call(caller: _Caller) -> None:
        while not latencies or perf_counter() < until:
            request, begun = scenario(pod), perf_counter()
            await caller.ask(request)
            latencies.append(perf_counter() - begun)

    before, begun = processor_seconds(pod.process.pid), perf_counter()
    async with asyncio.TaskGroup() as calling:
        for caller in callers:
            calling.create_task(call(caller))
    took = perf_counter() - begun
    spent = processor_seconds(pod.process.pid) - before
    return Round(
        cost=spent / len(latencies) * 1e6,
        rate=len(latencies) / took,
        p99=percentile(sorted(latencies), 0.99) * 1e3,
    )
