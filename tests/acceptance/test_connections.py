"""Connections: the first frame, several at once, those that hang, and when a gateway counts as connected."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from uuid import uuid4

import aiohttp
import pytest

from gatecast.testing.doubles.raw_connection import RawConnection, refusal
from gatecast.testing.eventually import eventually
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.operator import GatewayAccess, Operator, Refused
from gatecast.testing.pods import RunningPod
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, Site
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

#: Gateways that do not wait seconds before they dial again.
_EAGER = GatewayOptions(reconnect_initial=0.05, reconnect_max=0.5)


async def test_s13_a_connection_that_never_reads_takes_nothing_from_the_other(site: Site) -> None:
    """Two connections of one gateway; the stored position waits for the slower one."""
    async with Deployment(site) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("doubled")
        async with (
            RawConnection.open(pod.gateways, access.token),
            UnmodifiedGateway(pod.gateway_host, access.token) as gateway,
        ):
            for _ in range(100):
                await operator.publish(access.id, {"padding": "x" * 100_000})
            await gateway.wait_until(lambda: len(gateway.received) == 100)
            assert [event.offset for event in gateway.received] == list(range(1, 101))
            assert (await operator.gateway(access.id))["position"]["confirmed"] == 0
            await operator.connections(access.id, 2)


async def _connect_and_vanish(pod: RunningPod, access: GatewayAccess) -> None:
    async with RawConnection.open(pod.gateways, access.token) as connection:
        assert (await connection.message())["type"] == "connection.ack"


async def test_s14_reconnecting_fast_leaves_exactly_one_live_feed(site: Site) -> None:
    """A hundred reconnects in a row, then ten at once, some while the previous ones still end."""
    async with Deployment(site, max_connections_per_gateway="20") as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("flapping")
        for _ in range(100):
            await _connect_and_vanish(pod, access)
        await asyncio.gather(*(_connect_and_vanish(pod, access) for _ in range(10)))
        async with UnmodifiedGateway(pod.gateway_host, access.token) as gateway:
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 1)
            await operator.connections(access.id, 1)
            await operator.confirmed(access.id, 1)
            assert gateway.connections_made == 1
            # Every slot of the gateway is free again: nothing leaked.
            async with asyncio.TaskGroup() as tasks:
                opened = [tasks.create_task(refusal(pod.gateways, access.token)) for _ in range(19)]
            assert {task.result() for task in opened} == {101}


async def test_s21_the_first_frame_is_the_acknowledgement_also_with_a_backlog(site: Site) -> None:
    """Events that wait come behind it, from the first one on."""
    async with Deployment(site) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("late")
        await asyncio.gather(*(operator.publish(access.id) for _ in range(300)))
        async with RawConnection.open(pod.gateways, access.token) as connection:
            first = await connection.frame()
            assert first.type is aiohttp.WSMsgType.TEXT
            acknowledgement = first.json()
            assert (acknowledgement["type"], acknowledgement["gatewayId"]) == ("connection.ack", access.id)
            assert (await connection.message())["position"].endswith(":1")


async def test_s24_a_gateway_counts_as_connected_only_while_its_pod_lives(site: Site) -> None:
    """A killed pod cannot say goodbye: its lease ends, and nobody clears a flag for it."""
    async with Deployment(site) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(two)
        access = await operator.create_gateway("orphan")
        async with RawConnection.open(one.gateways, access.token):
            await operator.connections(access.id, 1)
            one.kill()
            await operator.connections(access.id, 0)


async def test_s24_a_pod_that_stops_in_order_leaves_no_connection_behind(site: Site) -> None:
    """It gives its lease back, so the gateway is shown as offline at once."""
    async with Deployment(site) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(two)
        access = await operator.create_gateway("sent-away")
        async with RawConnection.open(one.gateways, access.token):
            await operator.connections(access.id, 1)
            one.terminate()
            assert await one.ended() == 0
            assert (await operator.gateway(access.id))["connected"] is False


async def test_s24_a_half_open_connection_does_not_hide_the_one_on_another_pod(site: Site) -> None:
    """The old connection hangs where nobody learns of its end; the gateway is connected, and stays so."""
    async with Deployment(site) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(two)
        access = await operator.create_gateway("moved")
        balancer = await deployment.balancer(one)
        async with UnmodifiedGateway(balancer.address, access.token):
            await operator.connections(access.id, 1)
            balancer.deafen()
        async with UnmodifiedGateway(two.gateway_host, access.token) as gateway:
            await operator.connections(access.id, 2)
            balancer.cut()
            await operator.connections(access.id, 1)
            assert [each["podId"] for each in (await operator.gateway(access.id))["connections"]] == ["two"]
            # The pod counts a connection before its first frame has reached the gateway.
            await gateway.wait_until(lambda: gateway.connected)
            assert gateway.connections_made == 1


async def test_s24_a_newer_connection_supersedes_the_older_one_on_another_pod(site: Site) -> None:
    """Where the gateway is set to keep the newest only: the older one is told, and one connection counts."""
    async with Deployment(site) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("single")
        await operator.ask("PATCH", f"/gateways/{access.id}", {"connectionPolicy": "newest-only"})
        async with (
            RawConnection.open(one.gateways, access.token) as older,
            RawConnection.open(two.gateways, access.token) as newer,
        ):
            assert await older.closed() == 4009
            await operator.connections(access.id, 1)
            assert [each["podId"] for each in (await operator.gateway(access.id))["connections"]] == ["two"]
            await operator.publish(access.id)
            assert (await newer.message())["type"] == "connection.ack"
            assert (await newer.message())["position"].endswith(":1")


@pytest.mark.parametrize("away", ["database", "outbox", "log"])
async def test_s24_s25_trouble_with_the_database_is_503_and_leaves_open_connections_alone(
    postgres: PostgresServer, new_database: NewDatabase, nats: NatsServer, away: str
) -> None:
    """Refused or silent, the database is no reason to end a gateway's process; when it returns, all goes on.

    So it is with a log on JetStream and its outbox, whichever is away; without the log, publishes are accepted.
    """
    name, stream = await new_database(), f"A{uuid4().hex}"
    async with TcpProxy(nats.socket if away == "log" else postgres.socket) as wire, AsyncExitStack() as stack:
        there, not_there = postgres.url(name), postgres.url(name, address=wire.address)
        site = {
            "database": Site(database=not_there),
            "outbox": Site(database=nats.url(stream), outbox=not_there),
            "log": Site(database=nats.url(stream, address=wire.address), outbox=there),
        }[away]
        deployment = await stack.enter_async_context(Deployment(site))
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("patient")
        async with UnmodifiedGateway(pod.gateway_host, access.token, options=_EAGER) as gateway:
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 1)
            # The same driver stands before a database that is silent.
            for fault in (wire.cut,) if away == "outbox" else (wire.cut, wire.deafen):
                fault()
                assert await refusal(pod.gateways, access.token) == 503
            assert await _answer(operator, access) == ("pending" if away == "log" else 503)
            wire.heal()
            await eventually(lambda: _accepted(operator, access))
            await gateway.wait_until(lambda: len(gateway.received) > 1)
            assert gateway.connections_made == 1
            assert await refusal(pod.gateways, access.token) == 101
            assert await refusal(pod.gateways, "no-such-token") == 401


async def test_s25_a_file_that_is_locked_is_503_and_leaves_open_connections_alone(sqlite_url: str) -> None:
    """Another process holds the file for longer than anybody waits; when it lets go, all goes on."""
    async with Deployment(sqlite_url) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("patient")
        async with UnmodifiedGateway(pod.gateway_host, access.token, options=_EAGER) as gateway:
            await gateway.wait_until(lambda: gateway.connected)
            with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                publishing = asyncio.create_task(operator.publish(access.id))
                assert await refusal(pod.gateways, access.token) == 503
                assert await refusal(pod.gateways, "no-such-token") == 401
                with pytest.raises(Refused) as refused:
                    await publishing
                assert refused.value.status == 503
            await eventually(lambda: _accepted(operator, access))
            await gateway.wait_until(lambda: len(gateway.received) == 1)
            assert gateway.connections_made == 1
            assert await refusal(pod.gateways, access.token) == 101


async def _answer(operator: Operator, access: GatewayAccess) -> object:
    """The state of an event that is published, or the status with which it is refused."""
    event = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "api-1", "data": {}}
    try:
        return (await operator.ask("POST", f"/gateways/{access.id}/events", event))["state"]
    except Refused as refused:
        return refused.status


async def _accepted(operator: Operator, access: GatewayAccess) -> bool:
    try:
        await operator.publish(access.id)
    except Refused as refused:
        assert refused.status == 503  # noqa: PT017 - anything else is a failure of the test
        return False
    return True
