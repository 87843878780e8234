"""Pods die, gateways move: every gateway gets everything, in order, and nothing that it has confirmed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from gatecast.testing.doubles.raw_connection import RawConnection
from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.operator import GatewayAccess, Operator
from gatecast.testing.pods import RunningPod
from gatecast.testing.processes.deployment import Deployment, Site, gateway_address
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

#: Gateways that do not wait seconds before they dial again.
_EAGER = GatewayOptions(reconnect_initial=0.05, reconnect_max=0.5)


async def _register(operator: Operator, count: int) -> list[GatewayAccess]:
    return [await operator.create_gateway(f"gateway-{number}") for number in range(count)]


async def _connect(stack: AsyncExitStack, balancer: TcpProxy, access: GatewayAccess) -> UnmodifiedGateway:
    gateway = UnmodifiedGateway(balancer.address, access.token, options=_EAGER)
    await stack.enter_async_context(gateway)
    await gateway.wait_until(lambda: gateway.connected)
    return gateway


async def _survive_a_killed_pod(site: str | Site, names: Sequence[str], *, gateways: int, rounds: int) -> None:
    """Publish on every pod, kill the first in the middle, and check what every gateway received."""
    async with Deployment(site) as deployment, AsyncExitStack() as stack:
        pods = await deployment.start(*names)
        operator = await deployment.operator(pods[-1])
        accesses = await _register(operator, gateways)
        balancers = [await deployment.balancer(pods[number % len(pods)]) for number in range(gateways)]
        connected = list(map(_gateway, range(gateways), balancers, accesses))
        for gateway in connected:
            await stack.enter_async_context(gateway)
        load = Load(await deployment.publishers(*pods), [access.id for access in accesses])
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.publish(rounds))
            await load.reached(gateways * rounds // 2)
            await _kill_and_move(pods, balancers)
        for gateway, access in zip(connected, accesses, strict=True):
            received, connections = await _arrivals(gateway, rounds)
            check_delivery(received, load.accepted[access.id], connections=connections)


def _gateway(number: int, balancer: TcpProxy, access: GatewayAccess) -> UnmodifiedGateway | RecordingGateway:
    """Every other gateway speaks `gatecast.v2`."""
    if number % 2:
        return RecordingGateway(f"https://{balancer.address}", access.token)
    return UnmodifiedGateway(balancer.address, access.token, options=_EAGER)


async def _arrivals(gateway: UnmodifiedGateway | RecordingGateway, rounds: int) -> tuple[list[tuple[int, str]], int]:
    """What arrived once the last event has, and over how many connections the gateway may have got it."""
    if isinstance(gateway, RecordingGateway):
        await gateway.until(rounds)
        # Its client hands out nothing twice, however often it connects.
        return gateway.received, 1
    await gateway.wait_until(lambda: bool(gateway.received) and gateway.received[-1].offset == rounds)
    return [(event.offset or 0, event.event_id) for event in gateway.received], gateway.connections_made


async def _kill_and_move(pods: Sequence[RunningPod], balancers: Sequence[TcpProxy]) -> None:
    """The first pod crashes; the balancer finds another one for its gateways, and moves some others meanwhile."""
    pods[0].kill()
    assert await pods[0].ended() == -signal.SIGKILL
    for number, balancer in enumerate(balancers):
        if number % len(pods) == 0 or number % 4 == 1:
            balancer.retarget(gateway_address(pods[1 + number % (len(pods) - 1)]))


async def test_s03_s07_s08_a_pod_is_killed_under_load(large_site: Site) -> None:
    """Three pods; events are published on all of them while one dies and gateways move between the others."""
    await _survive_a_killed_pod(large_site, ("one", "two", "three"), gateways=9, rounds=40)


async def test_s03_s07_s08_a_pod_on_sqlite_is_killed_under_load(sqlite_url: str) -> None:
    """Two pods on one file."""
    await _survive_a_killed_pod(sqlite_url, ("one", "two"), gateways=6, rounds=30)


async def _deployment_of_two(deployment: Deployment) -> tuple[RunningPod, RunningPod, Operator, Operator]:
    one, two = await deployment.start("one", "two")
    return one, two, await deployment.operator(one), await deployment.operator(two)


async def test_s07_s08_a_gateway_that_moves_and_moves_back_gets_nothing_twice(site: Site) -> None:
    """The pod that never served it continues where it stands, and so does the first one later."""
    async with Deployment(site) as deployment, AsyncExitStack() as stack:
        one, two, operator, other = await _deployment_of_two(deployment)
        access = await operator.create_gateway("traveller")
        balancer = await deployment.balancer(one)
        gateway = await _connect(stack, balancer, access)
        for stop, pod in enumerate((one, two, one), start=1):
            if stop > 1:
                balancer.retarget(gateway_address(pod))
                await gateway.wait_until(lambda stop=stop: gateway.connections_made == stop)  # type: ignore[misc]
            for publisher in (operator, other):
                for _ in range(5):
                    await publisher.publish(access.id)
            await gateway.wait_until(lambda stop=stop: len(gateway.received) == 10 * stop)  # type: ignore[misc]
            await operator.confirmed(access.id, 10 * stop)
        assert [event.offset for event in gateway.received] == list(range(1, 31))


@pytest.mark.parametrize("returns_to", ["the same pod", "another pod"])
async def test_s03_what_a_peer_did_not_read_comes_again(site: Site, returns_to: str) -> None:
    """The events were handed to a socket whose peer died before it read them."""
    async with Deployment(site) as deployment:
        one, two, operator, _ = await _deployment_of_two(deployment)
        access = await operator.create_gateway("forgetful")
        async with RawConnection.open(one.gateways, access.token) as connection:
            assert (await connection.message())["type"] == "connection.ack"
            for _ in range(5):
                await operator.publish(access.id)
            # Received by its machine, handled by nobody: it answers no Ping.
            offsets = [(await connection.message())["position"].rpartition(":")[2] for _ in range(5)]
            assert offsets == ["1", "2", "3", "4", "5"]
        pod = one if returns_to == "the same pod" else two
        async with UnmodifiedGateway(pod.gateway_host, access.token) as gateway:
            await gateway.wait_until(lambda: len(gateway.received) == 5)
            assert [event.offset for event in gateway.received] == [1, 2, 3, 4, 5]
            await operator.confirmed(access.id, 5)


async def test_s03_what_went_into_a_half_open_connection_comes_again(site: Site) -> None:
    """The peer vanished without a word; its pod still writes into the old connection when the peer comes back."""
    async with Deployment(site) as deployment:
        one, two, operator, _ = await _deployment_of_two(deployment)
        access = await operator.create_gateway("vanished")
        balancer = await deployment.balancer(one)
        async with UnmodifiedGateway(balancer.address, access.token) as gateway:
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 1)
            await operator.confirmed(access.id, 1)
            balancer.deafen()
            for _ in range(5):
                await operator.publish(access.id)
            assert len(gateway.received) == 1
        async with UnmodifiedGateway(two.gateway_host, access.token) as returned:
            await returned.wait_until(lambda: len(returned.received) == 5)
            assert [event.offset for event in returned.received] == [2, 3, 4, 5, 6]
