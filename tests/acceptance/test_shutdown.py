"""Stopping, gently and not: no accepted event is lost, gateways are sent on, and the process ends in time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing

import aiohttp
import pytest

from gatecast.testing.contracts.held_log import HeldLog
from gatecast.testing.doubles.raw_connection import RawConnection
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.operator import Refused
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, Site, gateway_address
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

#: Gateways that do not wait seconds before they dial again.
_EAGER = GatewayOptions(reconnect_initial=0.05, reconnect_max=0.5)

_GATEWAYS = 10
_ROUNDS = 25


async def test_s29_sigterm_under_load_loses_no_accepted_event(site: Site) -> None:
    """Whatever was answered with 201 arrives, through the pod that is left; the stopped one exits with 0."""
    async with Deployment(site) as deployment, AsyncExitStack() as stack:
        stopping, staying = await deployment.start("stopping", "staying")
        operator = await deployment.operator(staying)
        accesses = [await operator.create_gateway(f"gateway-{number}") for number in range(_GATEWAYS)]
        balancer = await deployment.balancer(stopping)
        gateways = [
            await stack.enter_async_context(UnmodifiedGateway(balancer.address, access.token, options=_EAGER))
            for access in accesses
        ]
        load = Load(await deployment.publishers(stopping, staying), [access.id for access in accesses])
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.publish(_ROUNDS))
            await load.reached(_GATEWAYS * _ROUNDS // 3)
            stopping.terminate()
            assert await stopping.ended() == 0
            balancer.retarget(gateway_address(staying))
        for gateway, access in zip(gateways, accesses, strict=True):
            await gateway.wait_until(lambda gateway=gateway: _ROUNDS in {event.offset for event in gateway.received})  # type: ignore[misc]
            arrived = [(event.offset or 0, event.event_id) for event in gateway.received]
            check_delivery(arrived, load.accepted[access.id], connections=gateway.connections_made)


async def test_s29_gateways_are_sent_away_with_1012_and_not_all_at_once(site: Site) -> None:
    """So that they come back to the other pods as a trickle."""
    async with Deployment(site) as deployment, AsyncExitStack() as stack:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        connections = []
        for number in range(20):
            access = await operator.create_gateway(f"gateway-{number}")
            connections.append(await stack.enter_async_context(RawConnection.open(pod.gateways, access.token)))
        closing = [asyncio.create_task(connection.closed()) for connection in connections]
        pod.terminate()
        done, waiting = await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done) < 10, len(waiting) > 10) == (True, True)
        assert [await code for code in closing] == [1012] * 20
        assert await pod.ended() == 0


async def test_s29_requests_that_are_running_are_finished(postgres: PostgresServer, new_database: NewDatabase) -> None:
    """They wait for a log that another transaction holds; the pod waits for them."""
    url = postgres.url(await new_database())
    async with Deployment(url) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("held")
        async with HeldLog.hold(url, access.id) as held:
            publishing = asyncio.create_task(operator.publish(access.id))
            await held.waited_for()
            pod.terminate()
            await eventually(lambda: _refuses(pod.api))
        assert (await publishing)["offset"] == 1
        assert await pod.ended() == 0


async def _refuses(api: str) -> bool:
    """Whether nobody listens there any more."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{api}/healthz"):
                return False
        except aiohttp.ClientConnectionError:
            return True


async def test_s29_a_hanging_database_does_not_keep_the_pod_alive(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """It leaves within the drain time and a little; positions are repeated, the lease runs out."""
    name = await new_database()
    async with (
        TcpProxy(postgres.socket) as wire,
        Deployment(postgres.url(name, address=wire.address), drain_time="3s") as deployment,
    ):
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("stuck")
        async with UnmodifiedGateway(pod.gateway_host, access.token) as gateway:
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 1)
            wire.deafen()
            publishing = asyncio.create_task(operator.publish(access.id))
            pod.terminate()
            async with asyncio.timeout(PATIENCE):
                await pod.ended()
            with pytest.raises((Refused, aiohttp.ClientError)):
                await publishing


async def test_s29_a_locked_file_does_not_keep_the_pod_alive(sqlite_url: str) -> None:
    """Another process holds the file: the pod leaves within the drain time and a little all the same."""
    async with Deployment(sqlite_url, drain_time="3s") as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("stuck")
        async with UnmodifiedGateway(pod.gateway_host, access.token) as gateway:
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 1)
            with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                publishing = asyncio.create_task(operator.publish(access.id))
                pod.terminate()
                async with asyncio.timeout(PATIENCE):
                    await pod.ended()
                with pytest.raises((Refused, aiohttp.ClientError)):
                    await publishing
