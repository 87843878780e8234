"""`gatecast bench memory`: what an idle gateway connection costs a pod."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from secrets import token_urlsafe
from tempfile import TemporaryDirectory
from time import perf_counter

from gatecast.cli.bench.measured_pod import NO_LIMITS
from gatecast.cli.bench.processes import resident_bytes
from gatecast.cli.bench.report import MemoryFigures, report_memory
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag
from gatecast.client.socket import ClientSocket, open_session, open_socket
from gatecast.testing.operator import GatewayAccess, Operator
from gatecast.testing.pods import Pods, RunningPod

_PATH = "/api/internal/v1/ws/gateways/connect"

#: Connections that come first and are not counted: whatever a pod makes once is made for them.
_FIRST = 50

#: How many connect at the same time.
_AT_ONCE = 25

_CONNECT_TIME_LIMIT = 30.0


def memory(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure how much memory an idle gateway connection costs a pod, with TLS and without. Needs Linux."""
    figures = asyncio.run(_measure(100 if quick else 1_000))
    report_memory(figures, as_json=as_json)


async def _measure(connections: int) -> list[MemoryFigures]:
    return [await _measure_pod(tls, connections) for tls in ("off", "auto")]


async def _measure_pod(tls: str, connections: int) -> MemoryFigures:
    """Start a pod of its own for each figure: memory that was given back once would blur the next."""
    admin_token = token_urlsafe(16)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="gatecast-bench-"))
        database = f"sqlite:///{folder}/memory.db"
        pods = await stack.enter_async_context(Pods(database, admin_token=admin_token, gateway_tls=tls, **NO_LIMITS))
        pod = await pods.start("measured")
        async with Operator(pod.api, admin_token) as operator:
            gateway = await operator.create_gateway("idle")
        await _connect(stack, pod, gateway, _FIRST)
        before, begun = resident_bytes(pod.pid), perf_counter()
        await _connect(stack, pod, gateway, connections)
        seconds = perf_counter() - begun
        grown = resident_bytes(pod.pid) - before
    return MemoryFigures(
        tls=tls != "off",
        connections=connections,
        kib_per_connection=grown / connections / 1024,
        connects_per_second=connections / seconds,
    )


async def _connect(stack: AsyncExitStack, pod: RunningPod, gateway: GatewayAccess, count: int) -> None:
    """Open connections that stay until the stack ends."""
    session = open_session(ssl=False, headers={"api-key": gateway.token}, time_limit=_CONNECT_TIME_LIMIT)
    await stack.enter_async_context(session)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def connect() -> ClientSocket:
        async with turns:
            socket = await open_socket(session, f"{pod.gateways}{_PATH}", headers={})
            # The welcome: from here on the connection is idle.
            await socket.receive(_CONNECT_TIME_LIMIT)
            return socket

    async with asyncio.TaskGroup() as connecting:
        tasks = [connecting.create_task(connect()) for _ in range(count)]
    for task in tasks:
        stack.callback(task.result().release)
