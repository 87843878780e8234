"""`gatecast bench http`: publishing over HTTP, and what a request costs a pod."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, NamedTuple, Self
from urllib.parse import urlsplit

import typer

from gatecast.cli.bench.centrifugo import Centrifugo, running_centrifugo
from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import MeasuredPod, measured_pod
from gatecast.cli.bench.processes import processor_seconds
from gatecast.cli.bench.report import percentile
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag

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


CentrifugoFlag = Annotated[
    Path | None,
    typer.Option(
        "--centrifugo",
        exists=True,
        dir_okay=False,
        help="Program of Centrifugo 6.9 or newer, measured in turn with the pod, on the same PostgreSQL; "
        "`go install github.com/centrifugal/centrifugo/v6@latest` makes one.",
    ),
]


def http(*, quick: QuickFlag = False, centrifugo: CentrifugoFlag = None, as_json: JsonFlag = False) -> None:
    """Measure publishing over HTTP with 1 to 64 callers, each on a connection of its own, at 1 and 3 pods. Needs Linux.

    The yardstick is the health check of the same pod, which asks for nothing.
    """
    plan = (50, 2, 0.1) if quick else (1_000, 4, 1.0)
    report("http", asyncio.run(_measure(*plan, centrifugo)), as_json=as_json)


async def _measure(gateways: int, rounds: int, seconds: float, centrifugo: Path | None) -> list[Figure]:
    async with measured_pod(gateways, others=_PODS - 1) as pod, AsyncExitStack() as stack:
        scenarios = _scenarios(pod)
        if centrifugo is not None:
            server = await stack.enter_async_context(running_centrifugo(centrifugo, pod.target.url))
            request = partial(_publish_there, server, pod)
            scenarios["centrifugo"] = _Scenario([server.url] * _CALLERS, request, server.pid)
        results: dict[str, list[Round]] = {name: [] for name in scenarios}
        for number in range(rounds + 1):
            for name, scenario in scenarios.items():
                result = await _round(scenario, seconds)
                if number:
                    # The first one warms up.
                    results[name].append(result)
    return _figures(results) + (_compared(results) if "centrifugo" in results else [])


def _scenarios(pod: MeasuredPod) -> dict[str, _Scenario]:
    here, pods = pod.process.api, [pod.process, *pod.others]
    spread = [pods[number % _PODS].api for number in range(_CALLERS)]
    publish = partial(_publish, pod)

    def asked(urls: Sequence[str], request: Callable[[], bytes]) -> _Scenario:
        return _Scenario(urls, request, pod.process.pid)

    return {
        "health": asked([here] * _CALLERS, _health),
        **{f"publish {count}": asked([here] * count, publish) for count in (1, _FEW, _CALLERS, _MANY)},
        "batch": asked([here] * _CALLERS, partial(_publish_batch, pod)),
        "pods": asked(spread, publish),
    }


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


def _compared(results: Mapping[str, Sequence[Round]]) -> list[Figure]:
    """The pod against Centrifugo, which stores each message in a transaction of its own."""
    own, other = results[f"publish {_CALLERS}"], results["centrifugo"]
    return [
        Figure(
            what=f"requests, as a multiple of Centrifugo's, {_CALLERS} callers",
            unit="x",
            rounds=[mine.rate / theirs.rate for mine, theirs in zip(own, other, strict=True)],
            aim=2,
            more_is_better=True,
        ),
        _requests(f"requests at Centrifugo, {_CALLERS} callers", other),
        Figure(what="processor time of Centrifugo per request", unit="µs", rounds=[each.cost for each in other]),
        Figure(
            what=f"p99 of a request, at most Centrifugo's, {_CALLERS} callers",
            unit="ms",
            rounds=[each.p99 for each in own],
            aim=median(each.p99 for each in other),
            yardstick=median(each.p99 for each in other),
        ),
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


class _Scenario(NamedTuple):
    """What callers ask for at once, each again and again."""

    #: Where each caller asks.
    urls: Sequence[str]
    request: Callable[[], bytes]
    #: The process whose processor time is measured.
    pid: int


class _Caller:
    """One connection that stays open."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url)

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


def _post(path: str, admission: str, body: object) -> bytes:
    text = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\n{admission}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    ).encode() + text


def _request(pod: MeasuredPod, path: str, body: object) -> bytes:
    return _post(path, f"Authorization: Bearer {pod.admin_token}", body)


def _health() -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: pod\r\n\r\n"


def _publish(pod: MeasuredPod) -> bytes:
    gateway_id, _ = random.choice(pod.gateways)  # noqa: S311 - spreads load
    return _request(pod, f"/api/v1/gateways/{gateway_id}/events", _EVENT)


def _publish_batch(pod: MeasuredPod) -> bytes:
    chosen = random.choices(pod.gateways, k=_BATCH)  # noqa: S311 - spreads load
    return _request(pod, "/api/v1/events", {"events": [_EVENT | {"gatewayId": each} for each, _ in chosen]})


def _publish_there(server: Centrifugo, pod: MeasuredPod) -> bytes:
    gateway_id, _ = random.choice(pod.gateways)  # noqa: S311 - spreads load
    return _post("/api/publish", f"X-API-Key: {server.key}", {"channel": gateway_id, "data": _EVENT})


async def _round(scenario: _Scenario, seconds: float) -> Round:
    latencies: list[float] = []

    async def call(caller: _Caller) -> None:
        while not latencies or perf_counter() < until:
            request, begun = scenario.request(), perf_counter()
            await caller.ask(request)
            latencies.append(perf_counter() - begun)

    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(_Caller(url)) for url in scenario.urls]
        before, begun = processor_seconds(scenario.pid), perf_counter()
        until = begun + seconds
        async with asyncio.TaskGroup() as calling:
            for caller in callers:
                calling.create_task(call(caller))
        took = perf_counter() - begun
        spent = processor_seconds(scenario.pid) - before
    return Round(
        cost=spent / len(latencies) * 1e6,
        rate=len(latencies) / took,
        p99=percentile(sorted(latencies), 0.99) * 1e3,
    )
