"""`gatecast bench http`: publishing over HTTP, and what a request costs a pod."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter
from typing import Self
from urllib.parse import urlsplit

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.report import percentile
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag

_CALLERS = 32

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
    """Measure publishing over HTTP with 32 callers, each on a connection of its own. Needs Linux.

    The yardstick is the health check of the same pod, which asks for nothing.
    """
    plan = (50, 2, 0.2) if quick else (1_000, 5, 2.0)
    report("http", asyncio.run(_measure(*plan)), as_json=as_json)


async def _measure(gateways: int, rounds: int, seconds: float) -> list[Figure]:
    async with measured_pod(gateways) as pod, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(_Caller(pod)) for _ in range(_CALLERS)]
        scenarios = {"health": _health, "publish": _publish, "batch": _publish_batch}
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in scenarios}
        for number in range(rounds + 1):
            for name, scenario in scenarios.items():
                result = await _round(pod, callers, scenario, seconds)
                if number:
                    # The first one warms up.
                    results[name].append(result)
    bare = median(cost for cost, _, _ in results["health"])
    costs, rates, slowest = zip(*results["publish"], strict=True)
    return [
        Figure(what="processor time per request", unit="µs", rounds=costs, aim=300, yardstick=bare),
        Figure(what="requests", unit="/s", rounds=rates, more_is_better=True),
        Figure(what="p99 of a request", unit="ms", rounds=slowest),
        Figure(
            what=f"processor time per event, {_BATCH} in a request",
            unit="µs",
            rounds=[cost / _BATCH for cost, _, _ in results["batch"]],
        ),
        Figure(
            what=f"events, {_BATCH} in a request",
            unit="/s",
            rounds=[rate * _BATCH for _, rate, _ in results["batch"]],
            more_is_better=True,
        ),
    ]


class _Caller:
    """One connection that stays open."""

    def __init__(self, pod: MeasuredPod) -> None:
        self.pod = pod
        self._host = urlsplit(pod.process.api)

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
    pod: MeasuredPod, callers: list[_Caller], scenario: Callable[[MeasuredPod], bytes], seconds: float
) -> tuple[float, float, float]:
    """Microseconds of the processor per request, requests per second, and the p99 in milliseconds."""
    latencies: list[float] = []
    until = perf_counter() + seconds

    async def call(caller: _Caller) -> None:
        while perf_counter() < until:
            request, begun = scenario(pod), perf_counter()
            await caller.ask(request)
            latencies.append(perf_counter() - begun)

    before, begun = processor_seconds(pod.process.pid), perf_counter()
    async with asyncio.TaskGroup() as calling:
        for caller in callers:
            calling.create_task(call(caller))
    took = perf_counter() - begun
    spent = processor_seconds(pod.process.pid) - before
    return spent / len(latencies) * 1e6, len(latencies) / took, percentile(sorted(latencies), 0.99) * 1e3
