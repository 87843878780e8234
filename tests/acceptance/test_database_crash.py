"""PostgreSQL crashes under load, comes back, comes back elsewhere, or answers slowly: what was accepted is there."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.operator import GatewayAccess, Operator
from gatecast.testing.pods import RunningPod
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

_GATEWAYS = 6


@dataclass(frozen=True)
class _Scene:
    """Two pods, and gateways connected to each."""

    pods: list[RunningPod]
    operator: Operator
    gateways: list[tuple[UnmodifiedGateway, GatewayAccess]]
    load: Load
    #: One in front of each pod's gateway listener.
    ways: list[TcpProxy]

    async def reached(self, share: float, rounds: int) -> None:
        """Return when this share of the load was accepted."""
        await self.load.reached(int(share * rounds * len(self.gateways)))

    async def check(self, rounds: int) -> None:
        """Everything arrived and was confirmed, on the connection that each gateway made at first."""
        for gateway, access in self.gateways:
            await gateway.wait_until(
                lambda gateway=gateway: bool(gateway.received) and gateway.received[-1].offset == rounds  # type: ignore[misc]
            )
            arrived = [(event.offset or 0, event.event_id) for event in gateway.received]
            check_delivery(arrived, self.load.accepted[access.id], connections=gateway.connections_made)
            assert gateway.connections_made == 1
            await self.operator.confirmed(access.id, rounds)


@asynccontextmanager
async def _scene(database: str) -> AsyncIterator[_Scene]:
    async with Deployment(database) as deployment, AsyncExitStack() as stack:
        pods = await deployment.start("one", "two")
        ways = [await deployment.balancer(pod) for pod in pods]
        operator = await deployment.operator(pods[0])
        accesses = [await operator.create_gateway(f"gateway-{number}") for number in range(_GATEWAYS)]
        gateways = [
            await stack.enter_async_context(UnmodifiedGateway(ways[number % 2].address, access.token))
            for number, access in enumerate(accesses)
        ]
        for gateway in gateways:
            await gateway.wait_until(lambda gateway=gateway: gateway.connected)  # type: ignore[misc]
        load = Load(await deployment.publishers(*pods), [access.id for access in accesses])
        yield _Scene(pods, operator, list(zip(gateways, accesses, strict=True)), load, ways)


async def test_a_database_that_crashes_under_load_loses_no_accepted_event() -> None:
    """Killed and started again twice; the gateways keep their connections all the time."""
    with PostgresServer() as server:
        async with _scene(server.url()) as scene:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
                tasks.create_task(scene.load.publish(40))
                for share in (0.25, 0.5):
                    await scene.reached(share, 40)
                    await asyncio.to_thread(_crash, server)
            await scene.check(40)


def _crash(server: PostgresServer) -> None:
    server.kill()
    server.start()


async def test_a_database_that_comes_back_at_another_address_is_found_and_loses_no_accepted_event() -> None:
    """A failover: the first server dies, another one with its data takes over, and nobody starts a pod anew.

    Meanwhile every pod says of itself that it is not ready, and why.
    """
    with PostgresServer() as first, PostgresServer() as second:
        async with TcpProxy(first.socket) as wire, _scene(first.url(address=wire.address)) as scene:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
                tasks.create_task(scene.load.publish(30))
                await scene.reached(0.4, 30)
                await asyncio.to_thread(first.kill)
                for pod in scene.pods:
                    await eventually(lambda pod=pod: _blames_the_database(pod))  # type: ignore[misc]
                await asyncio.to_thread(_take_over, first, second)
                wire.retarget(second.socket)
            await scene.check(30)
            for pod in scene.pods:
                await eventually(lambda pod=pod: _is_ready(pod))  # type: ignore[misc]


def _take_over(dead: PostgresServer, successor: PostgresServer) -> None:
    """The successor runs on a copy of what the dead server has left on its disk."""
    successor.kill()
    shutil.rmtree(successor._folder)
    subprocess.run(["cp", "-a", dead._folder, successor._folder], check=True)  # noqa: S607 - keeps the owner
    (successor._folder / "postmaster.pid").unlink()
    successor.start()


async def _blames_the_database(pod: RunningPod) -> bool:
    return any("database" in problem for problem in await _problems(pod))


async def _is_ready(pod: RunningPod) -> bool:
    return not await _problems(pod)


async def _problems(pod: RunningPod) -> list[str]:
    """Why the pod should get no traffic, as it says; empty when it should."""
    async with aiohttp.ClientSession() as session, session.get(f"{pod.api}/readyz") as answer:
        said = await answer.json()
    problems: list[str] = said["problems"]
    assert (answer.status, said["status"]) == ((503, "not ready") if problems else (200, "ready"))
    return problems


async def test_slow_wires_to_the_database_and_to_gateways_lose_and_repeat_nothing(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Every piece of every answer and question is late; how late changes while events flow."""
    name = await new_database()
    async with TcpProxy(postgres.socket) as wire, _scene(postgres.url(name, address=wire.address)) as scene:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.load.publish(20))
            for share, to_database, to_gateways in ((0.1, 0.02, 0.1), (0.4, 0.1, 0.01), (0.7, 0.01, 0.3)):
                await scene.reached(share, 20)
                wire.delay(to_database)
                for way in scene.ways:
                    way.delay(to_gateways)
        await scene.check(20)
        assert wire.connections > 0
        assert not any(pod.logged("lease-not-renewed") for pod in scene.pods)
