"""PostgreSQL crashes under load and comes back: pods recover by themselves, and what was accepted is there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from gatecast.testing.deployment import Deployment
from gatecast.testing.load import Load, check_delivery
from gatecast.testing.operator import Operator
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

_ROUNDS = 60


async def test_a_database_that_crashes_under_load_loses_no_accepted_event() -> None:
    """Killed and started again twice; the gateways keep their connections all the time."""
    with PostgresServer() as server:
        async with Deployment(server.url()) as deployment, AsyncExitStack() as stack:
            pods = await deployment.start("one", "two")
            operator = await deployment.operator(pods[0])
            accesses = [await operator.create_gateway(f"gateway-{number}") for number in range(6)]
            gateways = [
                await stack.enter_async_context(UnmodifiedGateway(pods[number % 2].gateway_host, access.token))
                for number, access in enumerate(accesses)
            ]
            for gateway in gateways:
                await gateway.wait_until(lambda gateway=gateway: gateway.connected)  # type: ignore[misc]
            load = Load(await deployment.publishers(*pods), [access.id for access in accesses])
            async with asyncio.timeout(50), asyncio.TaskGroup() as tasks:
                tasks.create_task(load.publish(_ROUNDS))
                for share in (0.25, 0.5):
                    await load.reached(int(share * _ROUNDS * len(accesses)))
                    await asyncio.to_thread(_crash, server)
            for gateway, access in zip(gateways, accesses, strict=True):
                await _check(gateway, operator, access.id, load)


def _crash(server: PostgresServer) -> None:
    server.kill()
    server.start()


async def _check(gateway: UnmodifiedGateway, operator: Operator, gateway_id: str, load: Load) -> None:
    await gateway.wait_until(lambda: bool(gateway.received) and gateway.received[-1].offset == _ROUNDS, 20)
    arrived = [(event.offset or 0, event.event_id) for event in gateway.received]
    check_delivery(arrived, load.accepted[gateway_id], connections=gateway.connections_made)
    assert gateway.connections_made == 1
    await operator.confirmed(gateway_id, _ROUNDS)
