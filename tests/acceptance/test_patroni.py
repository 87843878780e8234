"""Patroni decides who is the primary, with etcd: its machine dies under load, and comes back as a standby (S20)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.processes.patroni import PatroniCluster, PatroniNode
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

_ROUNDS = 40


async def test_s20_with_patroni_a_failover_loses_nothing_and_nobody_resynchronizes() -> None:
    """Commits wait until the old primary follows the new one (`synchronous_mode_strict`); then publishing goes on."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(PostgresServer(fsync="off"))
        cluster = await stack.enter_async_context(PatroniCluster(server))
        deployment = await stack.enter_async_context(Deployment(cluster.url, poll_interval="0.5s"))
        pods = await deployment.start("one", "two")
        operator = await deployment.operator(pods[0])
        explicit, unmodified = [await operator.create_gateway(name) for name in ("explicit", "unmodified")]
        ways = [await deployment.balancer(pod) for pod in pods]
        client = await stack.enter_async_context(RecordingGateway(f"https://{ways[0].address}", explicit.token))
        other = await stack.enter_async_context(UnmodifiedGateway(ways[1].address, unmodified.token))
        await other.wait_until(lambda: other.connected)
        primary = await cluster.primary()
        assert primary is not None
        await eventually(lambda: primary.fetch_value("SELECT synchronous FROM gatecast.epoch"))
        before = (await operator.gateway(explicit.id))["position"]["epoch"]
        load = Load(await deployment.publishers(*pods), [explicit.id, unmodified.id])
        # A new primary, and then the old one behind it.
        async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.publish(_ROUNDS))
            await load.reached(_ROUNDS // 2)
            await _fail_over(cluster, primary)
            await cluster.start(primary)
        for access in (explicit, unmodified):
            await operator.confirmed(access.id, _ROUNDS)
        check_delivery(client.received, load.accepted[explicit.id], connections=ways[0].accepted)
        received = [(event.offset or 0, event.event_id) for event in other.received]
        check_delivery(received, load.accepted[unmodified.id], connections=ways[1].accepted)
        assert client.resyncs == []
        assert (await operator.gateway(explicit.id))["position"]["epoch"] == before
        await eventually(cluster.commits_wait_for_a_standby)


async def _fail_over(cluster: PatroniCluster, primary: PatroniNode) -> None:
    """The primary's machine dies, and the standby takes over."""
    await primary.crash()
    await cluster.forget_leader()

    async def successor() -> bool:
        return await cluster.primary() is not None

    await eventually(successor)
