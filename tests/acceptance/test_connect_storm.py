"""Hundreds of gateways, and pods that leave them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from gatecast.testing.deployment import Deployment, gateway_address
from gatecast.testing.load import Load, check_delivery
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.recording_gateway import RecordingGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

_GATEWAYS = 500

_ROUNDS = 4


async def test_s30_five_hundred_gateways_get_exactly_what_was_committed_while_pods_die_and_stand_still(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Events are published on all pods all the time.

    One pod dies, and everybody who was on it connects elsewhere at once. Another one stands still, its gateways go away
    as well, and it runs on as if nothing had happened.
    """
    async with Deployment(postgres.url(await new_database())) as deployment, AsyncExitStack() as stack:
        dying, freezing, staying = pods = await deployment.start("dying", "freezing", "staying")
        operator = await deployment.operator(staying)
        accesses = [await operator.create_gateway(f"gateway-{number}") for number in range(_GATEWAYS)]
        balancers = [await deployment.balancer(pod) for pod in pods]
        gateways = [
            await stack.enter_async_context(
                RecordingGateway(f"https://{balancers[number % len(pods)].address}", access.token)
            )
            for number, access in enumerate(accesses)
        ]
        load = Load(await deployment.publishers(*pods), [access.id for access in accesses])
        publishing = asyncio.create_task(load.publish(_ROUNDS, workers=16))
        await load.reached(_GATEWAYS)
        dying.kill()
        await dying.ended()
        balancers[0].retarget(gateway_address(staying))
        await load.reached(2 * _GATEWAYS)
        freezing.freeze()
        balancers[1].retarget(gateway_address(staying))
        await load.reached(2 * _GATEWAYS + 1)
        freezing.thaw()
        await publishing
        await asyncio.gather(*(gateway.until(_ROUNDS, within=60) for gateway in gateways))
        for gateway, access in zip(gateways, accesses, strict=True):
            check_delivery(gateway.received, load.accepted[access.id], connections=1)
